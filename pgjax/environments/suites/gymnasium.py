"""Gymnasium: environments in Python, on the host."""

import contextlib
import functools
from collections.abc import Callable, Sequence

import gymnasium
import numpy as np

from pgjax.core import distribution
from pgjax.core.components import check_int
from pgjax.core.names import shown, told
from pgjax.environments.host import contract
from pgjax.environments.host.bundle import Bundle
from pgjax.environments.host.environment import HostEnvironment
from pgjax.environments.host.resting import Maker, close
from pgjax.environments.suites.suite import Suite

# They compute with JAX, which a program that calls them may wait for in vain.
_IN_JAX = ("phys2d/", "tabular/")
_MOST_PROCESSES = 1024
# The entry points of ids that only say where their environments have gone.
_MOVED = ("_raise_mujoco_py_error", "_raise_shimmy_error")


class Gymnasium(Suite):
    """`gymnasium/CartPole-v1`, with the options `limit` and `processes`.

    Source: Towers et al. (2024), Gymnasium.
    """

    name, extra = "gymnasium", "mujoco"

    def names(self) -> Sequence[str]:
        """The ids that are registered, but for those of environments in JAX, and those that
        Gymnasium has moved elsewhere."""
        specs = gymnasium.registry.items()
        return sorted(
            name
            for name, spec in specs
            if not name.startswith(_IN_JAX)
            and getattr(spec.entry_point, "__name__", "") not in _MOVED
        )

    def unknown(self, name: str) -> str:
        """Names what registers a namespace, `ALE/` for instance, that nobody has registered."""
        namespace = name.partition("/")[0]
        if namespace == name or any(known.startswith(f"{namespace}/") for known in self.names()):
            return super().unknown(name)
        package = " (ALE: pip install ale-py, --import ale_py)" if namespace == "ALE" else ""
        return (
            f"nothing has registered the namespace {namespace!r} of gymnasium/{name}: import the "
            f"package that does, or name it by --import{package}"
        )

    def make(self, name: str, limit: int | None = None, processes: int = 1) -> HostEnvironment:
        """Makes what `from_gymnasium` describes."""
        options = {} if limit is None else {"max_episode_steps": limit}
        make = functools.partial(gymnasium.make, name, **options)
        try:
            drawn = functools.partial(make, render_mode="rgb_array")
            return _environment(name, make, processes, drawn)
        except gymnasium.error.DependencyNotInstalled as error:
            raise distribution.MissingExtra(_missing(name, error)) from error


def from_gymnasium(
    env: str | Callable[[], gymnasium.Env], limit: int | None = None, processes: int = 1
) -> HostEnvironment:
    """A Gymnasium environment, in Python on the host, as the id `gymnasium/NAME`.

    The sampler says how many there are side by side; all of one step are one call. MuJoCo needs the
    extra pgjax-rl[mujoco].

    Args:
      env: a registered id, or a function that makes one environment.
      limit: steps until an episode is truncated; None: the environment's own.
      processes: how many the environments are divided over, as far as they can be evenly; 1: this
        one. Several pay where a step of all takes longer than the messages, and cores are idle. A
        script needs `if __name__ == "__main__":` then.

    Raises:
      ValueError: an unknown id (the message names the nearest), a limit below 1, processes below 1
        or above 1024, a space that policies do not know, an environment that cannot be made here.
      TypeError: not Gymnasium's interface; a vector environment; `reset` or `step` raised an error.
      ImportError: MuJoCo is not installed.

    >>> import pgjax
    >>> env = pgjax.from_gymnasium("CartPole-v1")
    >>> env.limit, env.action_space.n
    (500, 2)

    Source: Towers et al. (2024), Gymnasium.
    """
    if isinstance(env, str):
        return Gymnasium().environment(env, limit=limit, processes=processes)
    if not callable(env) or isinstance(env, gymnasium.Env):
        raise TypeError(
            f"env must be a Gymnasium id or a function that makes one environment, got "
            f"{shown(env)}; the sampler says how many are made"
        )
    if limit is not None:
        check_int("limit", limit, 1)
        env = functools.partial(_limited, env, limit)
    name = getattr(env, "__name__", "the environment")
    try:
        return _environment(name, env, processes, env)
    except (KeyboardInterrupt, ValueError, TypeError):
        raise
    except BaseException as error:  # the function may raise any
        raise ValueError(f"{name} cannot be made here: {told(error)}") from error


def _missing(name: str, error: Exception) -> str:
    """The message for an environment whose dependency is not installed, with Gymnasium's own."""
    text = " ".join(str(error).split())
    if "mujoco" in text.lower():
        return distribution.missing("MuJoCo environments", Gymnasium.extra, ImportError(text))
    return f"gymnasium/{name} cannot be made here: {text}"


def _limited(make: Callable[[], gymnasium.Env], limit: int) -> gymnasium.Env:
    return gymnasium.wrappers.TimeLimit(make(), limit)


def _environment(
    name: str,
    make: Callable[[], gymnasium.Env],
    processes: int,
    make_drawn: Callable[[], gymnasium.Env],
) -> HostEnvironment:
    check_int("processes", processes, 1, _MOST_PROCESSES)
    probe = make()
    if isinstance(probe, gymnasium.vector.VectorEnv):
        raise TypeError(
            f"{name} is a vector environment: give what makes one environment; the sampler says "
            "how many there are"
        )
    if not isinstance(probe, gymnasium.Env):
        raise TypeError(
            f"{name} must be a gymnasium.Env, got {type(probe).__module__}.{type(probe).__name__}; "
            "Gym's before Gymnasium need an adapter such as shimmy"
        )
    try:
        name = probe.spec.id if probe.spec else type(probe.unwrapped).__name__
        environment = HostEnvironment(name, make, probe, processes, make_drawn)
        spaces = probe.observation_space, probe.action_space
    except BaseException:
        close(name, probe)
        raise
    _check(Bundle(Maker(name, lambda: probe, spaces), 1, 0), name)
    return environment


def _check(bundle: Bundle, name: str) -> None:
    """Raises unless reset and a step of the only one keep to Gymnasium's interface and to the
    spaces, as those of training must; closes it."""
    calls: dict[str, Callable[[], object]] = {
        "reset(seed=0)": lambda: bundle.reset(
            options={"mask": np.ones(1, bool), "seeds": np.zeros(1, int)}
        ),
        "step": lambda: bundle.step(bundle.action_space.sample()),
    }
    with contextlib.closing(bundle):
        bundle.action_space.seed(0)
        for part, call in calls.items():
            try:
                call()
            except contract.FAULTS as error:
                raise type(error)(f"{name}: {error}") from error
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # an old interface shows in any of a wrapper's lines
                raise TypeError(
                    f"{name}: {part} must be as in Gymnasium's interface; it raised {told(error)}"
                ) from error
