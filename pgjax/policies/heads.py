"""Heads: one object for each action space, which makes distributions over its actions."""

from typing import Any

from pgjax.core.components import unknown
from pgjax.core.names import shown
from pgjax.core.types import PyTree
from pgjax.environments import spaces
from pgjax.environments.interface import Environment
from pgjax.policies.action_heads.box import (
    BetaHead,
    NormalHead,
    RoundedHead,
    SquashedNormalHead,
    TanhNormalHead,
)
from pgjax.policies.action_heads.discrete import CategoricalHead, MultiDiscreteHead
from pgjax.policies.action_heads.head import DISTRIBUTIONS, Head, make, register
from pgjax.policies.action_heads.joint import JointHead

__all__ = [
    "DISTRIBUTIONS",
    "BetaHead",
    "CategoricalHead",
    "Head",
    "JointHead",
    "MultiDiscreteHead",
    "NormalHead",
    "RoundedHead",
    "SquashedNormalHead",
    "TanhNormalHead",
    "check_mask",
    "mask",
    "mask_space",
    "of",
    "register",
    "without_mask",
]

_MASK = spaces.MASK


def of(environment: Environment, distribution: str = "auto") -> Head:
    """The head for an environment's actions.

    Args:
      environment: its action space and bounds decide.
      distribution: "categorical" for Discrete, MultiDiscrete and MultiBinary actions; "normal",
        "tanh_normal" or "beta" for Box ones; "auto": categorical, tanh_normal for a bounded Box,
        normal for an unbounded one; for a Box with some bounds only, a normal squashed in each
        dimension by the bounds it has. In a Tuple or Dict, it applies to the parts that it covers,
        and "auto" to the others.

    Raises:
      ValueError: an unknown distribution; the message names the nearest.
      TypeError: an action space that no head covers, or not with that distribution.
    """
    if distribution not in DISTRIBUTIONS:
        raise ValueError(
            unknown(f"distribution {shown(distribution)}", distribution, DISTRIBUTIONS)
        )
    part = f"{environment.name}: action_space"
    return make(part, environment.action_space, environment.bounds, distribution)


# A mask is an entry of a Dict observation; the network does not see it.


def mask_space(observation_space: Any) -> Any:
    """The space of the observation's entry "action_mask", or None."""
    parts = spaces.children(observation_space) or {}
    return parts.get(_MASK)


def check_mask(head: Head, name: str, observation_space: Any) -> None:
    """Raises ValueError or TypeError unless the observation's mask, if it has one, fits the
    actions; the name begins the message."""
    space = mask_space(observation_space)
    if space is not None:
        head.check_mask(f"{name}: the observation's {_MASK!r}", space)


def mask(obs: PyTree, observation_space: Any) -> PyTree:
    """An observation's entry "action_mask", as dicts and tuples; None if its space has none."""
    space = mask_space(observation_space)
    return None if space is None else _builtin(spaces.entry(obs, _MASK), space)


def _builtin(value: PyTree, space: Any) -> PyTree:
    """A value of a space with Python's own dicts and tuples for its containers."""
    parts = spaces.children(space)
    if parts is None:
        return value
    entries = {name: _builtin(spaces.entry(value, name), child) for name, child in parts.items()}
    return spaces.joined(space, entries)


def without_mask(observation_space: Any) -> Any:
    """The observation space without its entry "action_mask", which the network does not see."""
    if mask_space(observation_space) is None:
        return observation_space
    entries = spaces.children(observation_space) or {}
    return spaces.Dict({name: space for name, space in entries.items() if name != _MASK})
