"""Checks of a user's head before compilation: the result of each of its methods."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from pgjax.core.contracts import (
    changes,
    describe,
    is_float_of,
    is_real,
    is_real_of,
    require,
    require_alike,
    require_arrays,
)
from pgjax.core.types import Array, PyTree
from pgjax.environments import spaces
from pgjax.policies.distributions import Distribution

_FEATURES = 8  # any number will do


def check(head: Any, space: Any) -> None:
    """Raises unless a head is a pytree and keeps its contract; traces, compiles nothing.

    Raises:
      TypeError: it is no pytree, or its `distribution` does not take its module's output.
      ValueError: a method's result is not what its contract says.
    """
    name = type(head).__name__
    if jax.tree_util.all_leaves([head]):
        raise TypeError(f"head {name} lacks the decorator @record, which makes it a pytree")
    module, number = head.module(), head.num_actions
    require(isinstance(module, nn.Module), "head", head, "module", "a Flax module", module)
    right = number is None or (isinstance(number, int) and number >= 1)
    require(right, "head", head, "num_actions", "a positive integer, or None", number)
    jax.eval_shape(lambda key: _try(head, module, space, key), jax.random.key(0))


def _try(head: Any, module: nn.Module, space: Any, key: Array) -> tuple:
    """Raises as `check` does; returns ()."""
    features = jnp.zeros(_FEATURES)
    parameters = module.apply(module.init(key, features), features)
    require_arrays("head", head, "module", parameters)
    distribution = _attempt(
        f"head {type(head).__name__}.distribution does not take what its module gives, "
        f"{jax.tree.map(describe, parameters)}",
        lambda: head.distribution(parameters),
    )
    right = isinstance(distribution, Distribution)
    require(right, "head", head, "distribution", "a Distribution", distribution)
    noise = head.noise(key, (2, 3))
    for leaf in jax.tree.leaves(noise) or [noise]:
        right = is_real(leaf) and jnp.shape(leaf)[:2] == (2, 3)
        require(right, "head", head, "noise", "leaves [*shape, …] with shape = (2, 3)", leaf)
    action = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), spaces.example(space))
    _try_distribution(head, distribution, jax.tree.map(lambda x: x[0, 0], noise), action)
    _check_action("head", head, "random_action", head.random_action(key), action)
    encoded = head.encode(action)
    right = is_real(encoded) and jnp.ndim(encoded) == 1
    require(right, "head", head, "encode", "float[k]", encoded)
    excluded = head.excludes_all(None)
    require(is_real_of(excluded, ()), "head", head, "excludes_all", "bool[] for None", excluded)
    return ()


def _try_distribution(head: Any, distribution: Any, noise: PyTree, action: PyTree) -> None:
    """Raises unless a distribution keeps to its contract; the action is one of the space."""
    part, name = "distribution", type(distribution).__name__
    mode = _attempt(
        f"distribution {name} has no mode with what the head's module gives", distribution.mode
    )
    kinds = jax.tree.map(describe, noise)
    sample = _attempt(
        f"distribution {name}.sample makes nothing of the head's noise, {kinds}",
        lambda: distribution.sample(noise),
    )
    require_arrays(part, distribution, "sample", sample)
    require_alike(part, distribution, "mode", mode, sample, "sample()")
    numbers = {
        "log_prob": distribution.log_prob(sample),
        "entropy": distribution.entropy(),
        "divergence": distribution.divergence(distribution),
    }
    for method, result in numbers.items():
        require(is_float_of(result, ()), part, distribution, method, "float[], nats", result)
    legal = distribution.environment_action(sample)
    _check_action(part, distribution, "environment_action", legal, action)
    if head.num_actions is not None:
        _check_lists(distribution, (head.num_actions,))


def _check_lists(distribution: Any, shape: tuple[int]) -> None:
    lists = {
        "probabilities": distribution.probabilities(),
        "log_probs": distribution.log_probs(),
    }
    contract = f"float[n] with n = {shape[0]}, the head's num_actions"
    for method, result in lists.items():
        require(is_float_of(result, shape), "distribution", distribution, method, contract, result)


def _attempt(fault: str, function: Callable[[], Any]) -> Any:
    """The function's result; raises TypeError, the fault and the reason, if it raises."""
    try:
        return function()
    except Exception as error:  # the user's own, of any type
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise TypeError(f"{fault}: {reason}") from error


def _check_action(part: str, owner: Any, method: str, result: PyTree, action: PyTree) -> None:
    """Raises ValueError unless an action has the structure and shapes of the space's."""
    require_arrays(part, owner, method, result)
    shapes = [
        jax.tree.map(lambda x: jax.ShapeDtypeStruct(jnp.shape(x), bool), tree)
        for tree in (action, result)
    ]
    for path, old, new in changes(*shapes):
        old, new = (text.removeprefix("bool") for text in (old, new))
        raise ValueError(
            f"{part} {type(owner).__name__}.{method} must give an action of the space: {path}{old},"
            f" got {new}"
        )
