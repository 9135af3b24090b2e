"""Training that starts from what another one has learned: parts of its state, by choice."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax

from pgjax.core.names import shown, unknown
from pgjax.core.types import TrainState
from pgjax.policies.policy import NORMALIZER
from pgjax.training.state_arrays import from_arrays, to_arrays
from pgjax.training.training import aval, difference

PARTS = ("policy", "critic", "normalizer", "optimizer")
DEFAULT = PARTS[:3]
# The parts that take the arrays whose paths begin so; the first that fits counts.
_TAKEN_WITH = {
    f".variables['{NORMALIZER}']": {"normalizer"},
    ".params": {"policy"},
    ".variables": {"policy"},
    ".critic.opt_state": {"critic", "optimizer"},
    ".critic": {"critic"},
    ".opt_state": {"optimizer"},
}


def transfer(state: TrainState, source: TrainState, parts: Sequence[str] = DEFAULT) -> TrainState:
    """A state that starts from what another has learned.

    Pure, so that `jax.vmap` transfers to many seeds at once. Key, counters and streams stay those
    of `state`, and so do the parts that are not named.

    Args:
      state: from `init`, for the config to train.
      source: a trained state, from `load` for instance, perhaps of another environment.
      parts: any of "policy" (its parameters, and a value head in its network), "critic" (with the
        units of its values), "normalizer" (the statistics of observations), and "optimizer" (the
        moments of the policy's, and of the critic's if that is named, too).

    Returns:
      `state` with these parts of `source`.

    Raises:
      ValueError: an unknown part; arrays that differ in their paths, shapes or dtypes, the first by
        its path.
      TypeError: no state.

    >>> import jax, pgjax
    >>> config = pgjax.Config(env="Catch-bsuite")
    >>> fresh, source = (pgjax.init(jax.random.key(seed), config) for seed in (0, 1))
    >>> state = pgjax.transfer(fresh, source)
    >>> state.params["head"]["Dense_0"]["kernel"] is source.params["head"]["Dense_0"]["kernel"]
    True
    """
    for value in (state, source):
        if not isinstance(value, TrainState):
            raise TypeError(f"transfer takes two TrainStates, got {type(value).__name__}")
    arrays = to_arrays(source)
    check(arrays, state, parts)
    return with_arrays(state, arrays, parts)


def with_arrays(state: TrainState, arrays: Mapping[str, Any], parts: Sequence[str]) -> TrainState:
    """`transfer` from arrays by their paths, which must have been checked."""
    own = to_arrays(state)
    chosen = {name: arrays[name] for name in own if _is_taken(name, parts)}
    return from_arrays({**own, **chosen}, state)


def check(arrays: Mapping[str, Any], like: TrainState, parts: Sequence[str]) -> None:
    """Raises ValueError unless arrays, by their paths, can be parts of a state.

    Args:
      arrays: of a source; or their shapes and dtypes.
      like: the state to be; or its shapes and dtypes.
      parts: as for `transfer`.
    """
    for part in parts:
        if part not in PARTS:
            raise ValueError(unknown(f"part {shown(part)}", part, PARTS))
    shapes = jax.eval_shape(to_arrays, like)
    # The parameters first: a difference in them explains the others.
    names = sorted(shapes, key=lambda name: not name.startswith(".params"))
    expected = {name: aval(shapes[name]) for name in names if _is_taken(name, parts)}
    given = {name: aval(leaf) for name, leaf in arrays.items() if _is_taken(name, parts)}
    problem = difference(given, expected)
    if problem is not None:
        raise ValueError(
            f"{', '.join(parts)} cannot be taken: {problem}; leave that part out, or give a config "
            "that fits"
        )


def _is_taken(name: str, parts: Sequence[str]) -> bool:
    """Whether the array of a path belongs to the parts."""
    owners = next((owners for start, owners in _TAKEN_WITH.items() if name.startswith(start)), None)
    return owners is not None and owners <= set(parts)
