"""Pools of environments, in this process or divided over several, and who goes on with which.

A pool has n environments. Whoever got an observation of it has tokens, which a further call makes
those of the past: an environment cannot go back, so a state can be gone on with once.
"""

import contextlib
import functools
import multiprocessing
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode

from pgjax.core.types import PyTree
from pgjax.environments.host import failure, reporting
from pgjax.environments.host.bundle import Bundle
from pgjax.environments.host.resting import TERMINATED, TRUNCATED, Maker

_MOST_POOLS = 4
_LOST = -1  # calls
_ENDED = "a process of the environments has ended"


class Tokens(NamedTuple):
    """int32[n] each: which pool, and after how many of its calls."""

    pool: Any
    calls: Any


class _Pool:
    """n environments.

    Attributes:
      number: n.
      held: whether streams go on with them; else whoever resets n environments takes them.
    """

    def __init__(self, maker: Maker, number: int, processes: int) -> None:
        self.number = number
        # Equal shares, of as many processes as that takes.
        shares = next(n for n in range(min(processes, number), 0, -1) if number % n == 0)
        self._shape = (number,) if shares == 1 else (shares, number // shares)
        firsts = range(0, number, number // shares)
        share = functools.partial(Bundle, maker, number // shares)
        bundles = [functools.partial(share, first) for first in firsts]
        self._env = bundles[0]() if shares == 1 else _divided(bundles)
        # Not of this process's choice: a checkpoint's tokens must not be those of another's pool.
        self.name, self.calls, self.held = secrets.randbits(31), 0, False

    def tokens(self) -> Tokens:
        """Those of now."""
        numbers = self.name, self.calls
        return Tokens(*(np.full(self.number, number, np.int32) for number in numbers))

    def has(self, tokens: Tokens) -> np.ndarray:
        """Which tokens are its own, and of now: bool[n]."""
        return (tokens.pool == self.name) & (tokens.calls == self.calls)

    def reset(self, seeds: np.ndarray, mask: np.ndarray) -> PyTree:
        """Observations [n, …] after new episodes where masked, bool[n]."""
        self._count()
        obs, _ = self._called(self._env.reset, options={"seeds": seeds, "mask": mask})
        return self._together(obs)

    def step(self, actions: PyTree) -> tuple[PyTree, np.ndarray, np.ndarray]:
        """Observations [n, …], rewards and how episodes ended."""
        self._count()
        actions = jax.tree.map(lambda x: x.reshape(*self._shape, *x.shape[1:]), actions)
        obs, *_, info = self._called(self._env.step, actions)
        return self._together(obs), info["rewards"].ravel(), info["ended"].ravel()

    def close(self) -> None:
        """Closes the environments, and ends its processes, if it has any."""
        try:
            self._env.close()
        except (EOFError, ConnectionError):  # a process has ended before
            if not isinstance(self._env, AsyncVectorEnv):
                raise
            _end(self._env)

    def _called(self, call: Callable[..., tuple], *args: Any, **kwargs: Any) -> tuple:
        try:
            results = call(*args, **kwargs)
        except (EOFError, ConnectionError) as error:
            if not isinstance(self._env, AsyncVectorEnv):
                raise
            _end(self._env)
            raise RuntimeError(_ENDED) from error
        reporting.raise_reported(results[-1])
        return results

    def _together(self, obs: PyTree) -> PyTree:
        rows = len(self._shape)
        return jax.tree.map(lambda x: x.reshape(self.number, *x.shape[rows:]), obs)

    def _count(self) -> None:
        self.calls = (self.calls + 1) % 2**31


class Pools:
    """The pools of one environment, at most four: a fifth one closes the one that nobody holds, or
    else the one whose last use is longest ago.

    Args:
      maker: of one environment.
      processes: how many they are divided over, as far as they can be evenly; 1: this one.

    Whatever an environment raises becomes an `EnvironmentFailure`, and its pool is closed.
    """

    def __init__(self, maker: Maker, processes: int) -> None:
        self._maker, self._processes = maker, processes
        self._pools: list[_Pool] = []  # the latest use comes last
        self._lock = threading.RLock()

    def reset(self, seeds: np.ndarray) -> tuple[Any, Tokens]:
        """n new episodes."""
        with self._lock:
            pool = self._free(len(seeds))
            with self._closed_on_error(pool):
                return pool.reset(seeds, np.ones(len(seeds), bool)), pool.tokens()

    def hold(self, tokens: Tokens, running: np.ndarray) -> tuple[Tokens, np.ndarray]:
        """Keeps a pool for whoever has tokens of now; of the others, the episodes are lost.

        Returns:
          The tokens, and which episodes run on, bool[n].
        """
        with self._lock:
            pool = self._of(tokens)
            mine = np.zeros(len(running), bool) if pool is None else pool.has(tokens)
            if pool is not None:
                pool.held = True
            calls = np.where(mine, tokens.calls, np.int32(_LOST))
            return Tokens(tokens.pool, calls), running & mine

    def step(self, tokens: Tokens, actions: Any) -> tuple | None:
        """Observations, tokens, rewards, and two flags of each episode's end; None: no episode
        runs, and there is nothing to do.

        Raises:
          EnvironmentFailure: tokens of the past; an environment's exception.
        """
        with self._lock:
            pool = self._of(tokens)
            lost = tokens.calls == _LOST
            if not np.all(lost | (False if pool is None else pool.has(tokens))):
                error = RuntimeError("these environments have gone on, or are closed, meanwhile")
                raise failure.of(self._maker.name, error)
            if pool is None:
                return None
            with self._closed_on_error(pool):
                obs, rewards, ended = pool.step(actions)
            pairs = zip(tokens, pool.tokens(), strict=True)
            tokens = Tokens(*(np.where(lost, old, new) for old, new in pairs))
            return obs, tokens, rewards, ended & TERMINATED > 0, ended & TRUNCATED > 0

    def restart(self, tokens: Tokens, running: np.ndarray, seeds: np.ndarray) -> tuple[Any, Tokens]:
        """New episodes for those that are not running, bool[n]; the others' observations are as
        they were. Where all are lost, who went on with the same environments loses them."""
        with self._lock:
            pool = self._of(tokens) or self._former(tokens) or self._free(len(running))
            pool.held = True
            with self._closed_on_error(pool):
                return pool.reset(seeds, ~running), pool.tokens()

    def close(self) -> None:
        """Closes all; who has tokens begins new episodes."""
        with self._lock:
            while self._pools:
                self._pools.pop().close()

    @contextlib.contextmanager
    def _closed_on_error(self, pool: _Pool) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            self._pools.remove(pool)
            with contextlib.suppress(Exception):  # the first error counts
                pool.close()
            if isinstance(error, KeyboardInterrupt):
                raise
            raise failure.of(self._maker.name, error) from error

    def _of(self, tokens: Tokens) -> _Pool | None:
        """The pool that some of the tokens belong to."""
        pool = next((pool for pool in self._pools if pool.has(tokens).any()), None)
        return pool and self._used(pool)

    def _former(self, tokens: Tokens) -> _Pool | None:
        """The pool that the tokens once belonged to."""
        pool = next((pool for pool in self._pools if pool.name == tokens.pool[0]), None)
        return pool and self._used(pool)

    def _free(self, number: int) -> _Pool:
        """A pool of so many that nobody holds."""
        for pool in self._pools:
            if not pool.held and pool.number == number:
                return self._used(pool)
        if len(self._pools) == _MOST_POOLS:
            oldest = min(self._pools, key=lambda pool: pool.held)  # the first of equals
            self._pools.remove(oldest)
            oldest.close()
        try:
            self._pools.append(_Pool(self._maker, number, self._processes))
        except Exception as error:  # what starts the processes may raise any
            raise failure.of(self._maker.name, error) from error
        return self._pools[-1]

    def _used(self, pool: _Pool) -> _Pool:
        self._pools.remove(pool)
        self._pools.append(pool)
        return pool


def _divided(bundles: Sequence[Callable[[], Bundle]]) -> AsyncVectorEnv:
    # JAX has threads, with which a fork may deadlock.
    methods = multiprocessing.get_all_start_methods()
    context = "forkserver" if "forkserver" in methods else "spawn"
    makers = [functools.partial(reporting.reporting, make) for make in bundles]
    try:
        return AsyncVectorEnv(makers, context=context, autoreset_mode=AutoresetMode.DISABLED)
    except (EOFError, ConnectionError) as error:
        hint = '; a script needs `if __name__ == "__main__":`'
        raise RuntimeError(f"{_ENDED} at its start{hint}") from error


def _end(env: AsyncVectorEnv) -> None:
    """Ends the processes, some of which no longer answer."""
    for process in env.processes:
        process.terminate()
        process.join()
    env.closed = True
