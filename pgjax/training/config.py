"""The configuration: one frozen dataclass composed of small ones, all of them pytrees.

Floats are leaves: traced, so they change without recompiling and can be batched by `vmap`. Ints,
strings, tuples, modules and environments are static: another value is another program.
"""

import contextlib
import dataclasses
import functools
import inspect
from collections.abc import Iterator
from typing import Any, Self, TypeGuard

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from pgjax.ascents.ascent import Ascent
from pgjax.ascents.gradient_step import GradientStep
from pgjax.ascents.optimizers import Adam, Custom, MakeTransformation, Optimizer, check_factory
from pgjax.core import schedules
from pgjax.core.components import (
    Component,
    check_bool,
    check_component,
    check_hashable,
    check_int,
    jax_option,
    knows_fields,
    option,
    parts,
)
from pgjax.core.contracts import is_real_of, require
from pgjax.core.keys import is_key
from pgjax.core.names import shown, unknown
from pgjax.core.types import Array, PyTree
from pgjax.critics.base import BaseCritic
from pgjax.critics.critic import Critic
from pgjax.environments import env_params as parameters
from pgjax.environments import interface, nodes
from pgjax.environments.wrappers import wrapper
from pgjax.estimators.estimator import Estimator
from pgjax.estimators.monte_carlo import RewardToGo
from pgjax.objectives.objective import Objective
from pgjax.objectives.score_function import ScoreFunction
from pgjax.policies import heads
from pgjax.policies.networks import MLP
from pgjax.policies.policy import build as build_policy
from pgjax.sampling.episodes import Episodes
from pgjax.sampling.sampler import Sampler, horizon, transitions
from pgjax.training.bound import Bound


@jax.tree_util.register_pytree_with_keys_class
@knows_fields
@dataclasses.dataclass(frozen=True)
class Config(Component):
    """The settings of a training: all that `train` needs besides a key.

    Attributes:
      env: an id, gymnax's or `suite/name`; an environment object with the gymnax ≥ 1.0 interface;
        or a `pgjax.Environment`. Static, but for the floats of a `Wrapper`.
      env_params: the environment's parameters, or None for its defaults. Traced, but for
        `max_steps_in_episode`, which sizes the arrays.
      network: a Flax Linen module from one observation to features. Static.
      distribution: the policy's head: "auto", "categorical", "normal", "tanh_normal" or "beta".
      normalize_observations: whether policy and critic see observations relative to the running
        mean and standard deviation of all training's observations; these are part of the state, and
        evaluations do not update them. Static.
      time_aware: whether the observation includes the time, as a share of the time limit or
        horizon, on which the best action may depend. Static.
      sampler: what one update learns from: `Episodes` or `Segments`.
      estimator: the weights of the scores: `RewardToGo`, `GAE`, or another `Estimator`.
      critic: how values are learned, for an estimator that needs them: those that bootstrap, and
        those with baseline="value".
      objective: what is differentiated: `ScoreFunction`, `ClippedRatio`, or another `Objective`.
      ascent: how it is climbed: `GradientStep`, `Passes`, or another `Ascent`.
      optimizer: `Adam`, `SGD`, or a callable learning_rate -> optax.GradientTransformation.
      num_updates: updates that `train` makes, ≥ 1. Static.

    >>> import pgjax
    >>> config = pgjax.Config(env="CartPole-v1", num_updates=3)
    >>> config.replace(**{"optimizer.learning_rate": 3e-3}).optimizer.learning_rate
    0.003
    """

    env: str | Any
    env_params: PyTree = None
    network: nn.Module = MLP()
    distribution: str = option("auto", choices=heads.DISTRIBUTIONS)
    normalize_observations: bool = False
    time_aware: bool = False
    sampler: Sampler = Episodes()
    estimator: Estimator = RewardToGo()
    critic: BaseCritic = Critic()
    objective: Objective = ScoreFunction()
    ascent: Ascent = GradientStep()
    optimizer: Optimizer = Adam()
    num_updates: int = option(50, low=1)

    def __post_init__(self) -> None:
        object.__setattr__(self, "optimizer", _optimizer(self.optimizer))
        if isinstance(self.env, str):
            object.__setattr__(self, "env", interface.canonical(self.env))

    def replace(self, **changes: Any) -> Self:
        """A copy with the given fields changed; dotted paths reach into nested components.

        If `env_params` is None, a path into it starts from the defaults of the environment: of the
        new one, if `env` changes as well.

        Raises:
          ValueError: a path that does not exist; the message names the nearest one.
        """
        config = self
        if self.env_params is None and any(path.startswith("env_params.") for path in changes):
            defaults = interface.default_params(changes.get("env", self.env))
            config = dataclasses.replace(self, env_params=defaults)
        if "optimizer" in changes:
            changes["optimizer"] = _optimizer(changes["optimizer"])
        return super(Config, config).replace(**changes)

    def tree_flatten_with_keys(self):
        """Leaves: the floats. The rest, and the time limit among env_params, is static."""
        params = parameters.split(self.env_params)
        values = {name: getattr(self, name) for name in _COMPONENTS}
        values |= {"env": nodes.to_node(self.env), "env_params": params}
        children = [(jax.tree_util.GetAttrKey(name), values[name]) for name in _TRACED]
        # With this option a program has −∞ in place of NaN: another program.
        debug_nans = jax_option("jax_debug_nans")
        return children, (debug_nans, *(getattr(self, name) for name in _STATIC))

    @classmethod
    def tree_unflatten(cls, static, children):
        """The inverse of `tree_flatten_with_keys`, for any leaves."""
        _, *static = static
        env, params, *components = children
        values = (nodes.from_node(env), parameters.joined(params), *components, *static)
        return cls(**dict(zip((*_TRACED, *_STATIC), values, strict=True)))


def _optimizer(value: Any) -> Any:
    """Wraps a factory of an Optax transformation in a component; returns other values unchanged."""
    return Custom(value) if _is_factory(value) else value


def _is_factory(value: Any) -> TypeGuard[MakeTransformation]:
    return callable(value) and not isinstance(value, (type, Component))


# The contract of each component, from which users derive their own.
_CONTRACTS: dict[str, type] = {
    "sampler": Sampler,
    "estimator": Estimator,
    "critic": BaseCritic,
    "objective": Objective,
    "ascent": Ascent,
    "optimizer": Optimizer,
}
_COMPONENTS = tuple(_CONTRACTS)
_TRACED = ("env", "env_params", *_COMPONENTS)
_FLAGS = ("normalize_observations", "time_aware")
_STATIC = ("network", "distribution", *_FLAGS, "num_updates")


def bind(config: Config, update: Any, mesh: Mesh | None = None) -> Bound:
    """Binds a checked config's parts to each other, with schedules at an update, int32[] from 0.

    All functions that sample, estimate, differentiate, ascend or fit a critic take the result.
    """
    config = schedules.resolve(config, update)
    environment = interface.bind(config.env, config.env_params)
    if config.time_aware:
        limit = horizon(config.sampler, environment)
        environment = interface.with_time(environment, limit)
    policy = build_policy(
        environment, config.network, config.distribution, config.normalize_observations
    )
    if config.estimator.critic is not None:
        value = config.critic.policy_module(config.estimator, policy.head)
        right = value is None or isinstance(value, nn.Module)
        require(right, "critic", config.critic, "policy_module", "a Flax module, or None", value)
        policy = policy.with_value(value)
    parts = {name: getattr(config, name) for name in _COMPONENTS}
    return Bound(environment=environment, policy=policy, mesh=mesh, **parts)


def checked(config: Config) -> Config:
    """Checks a config; returns it with arrays of explicit dtypes as leaves.

    Raises:
      TypeError: a field of the wrong type, an object without the interface it needs.
      ValueError: a value outside its range, names that do not exist, shapes that do not fit.
    """
    if not isinstance(config, Config):
        raise TypeError(f"config must be a pgjax.Config, got {shown(config)}")
    _check_fields(config)
    arrays = jax.tree_util.tree_map_with_path(_array, config)
    try:
        initial_variables(arrays)
    except TypeError as error:
        _check_sizes(arrays, config.env_params, error)
        raise
    return arrays


def initial_variables(config: Config) -> PyTree:
    """Shapes and dtypes of the policy's variables; traces the environment and the policy once."""
    leaves, structure = jax.tree.flatten(config)
    shapes = tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves)
    return _traced_variables(structure, shapes)


def check_on_device(config: Config, otherwise: str) -> None:
    """Raises ValueError if the environment runs on the host.

    Args:
      otherwise: what there is to do, for the message.
    """
    environment = interface.bind(config.env, config.env_params)
    if environment.on_host:
        raise ValueError(f"{environment.name} runs on the host: {otherwise}")


def check_key(key: Array) -> None:
    """Raises TypeError unless `key` is one `jax.random.key`."""
    if not is_key(key) or key.shape:
        dtype, shape = getattr(key, "dtype", type(key)), getattr(key, "shape", key)
        raise TypeError(
            f"key must be one typed key, jax.random.key(seed), got {dtype} {shape}; "
            "for several keys use jax.vmap"
        )


@functools.lru_cache(maxsize=1024)
def _traced_variables(structure: Any, shapes: tuple) -> PyTree:
    def trace(config: Config) -> PyTree:
        bound = bind(config, 0)
        interface.check(bound.environment)
        number = transitions(bound.sampler, bound.environment)
        bound.ascent.check_steps("ascent", number)
        if bound.estimator.critic is not None:
            bound.critic.check_steps("critic", number)
        _check_weights(bound)
        variables = bound.policy.init(jax.random.key(0))
        if bound.critic_at(variables).joint and not bound.ascent.takes_critic:
            raise ValueError(
                f"ascent {type(bound.ascent).__name__} cannot climb the loss of a "
                f"{type(bound.critic).__name__}: use critic=Critic(), or ascent=Passes()"
            )
        bound.optimizer.check_step(variables["params"])
        return variables

    return jax.eval_shape(trace, jax.tree.unflatten(structure, shapes))


def _check_weights(bound: Bound) -> None:
    """Raises unless the objective takes the estimator's weights."""
    estimator, objective = bound.estimator, bound.objective
    name, discount = type(objective).__name__, estimator.discount
    require(is_real_of(discount, ()), "estimator", estimator, "discount", "a number", discount)
    if estimator.all_actions and bound.policy.head.num_actions is None:
        raise TypeError(
            f"estimator.all_actions needs Discrete actions, not {bound.environment.action_space!r}"
        )
    if estimator.all_actions and not objective.takes_all_actions:
        raise ValueError(
            f"estimator.all_actions has weights of all actions, and objective {name} takes one of "
            "the action that was taken: use objective=ScoreFunction() or ImportanceRatio(), or "
            "all_actions=False"
        )
    if estimator.has_ratio and not objective.takes_ratio:
        raise ValueError(
            f"estimator {type(estimator).__name__} has the ratio to the sampling policy in its "
            f"weights, and objective {name} takes weights without it: use "
            "objective=ScoreFunction(), or estimator=GAE()"
        )


def _check_fields(config: Config) -> None:
    optimizer = config.optimizer
    check_factory(optimizer.make if isinstance(optimizer, Custom) else optimizer)
    for name, contract in _CONTRACTS.items():
        check_component(name, getattr(config, name), contract)
    check_int("num_updates", config.num_updates, 1)
    _check_numbers(config)
    check_hashable("network", config.network)
    for name in _FLAGS:
        check_bool(name, getattr(config, name))
    _check_estimator(config.estimator)
    config.critic.check_network("critic")
    if config.estimator.needs_whole_episodes and not config.sampler.whole_episodes:
        name, sampler = type(config.estimator).__name__, type(config.sampler).__name__
        raise ValueError(
            f"estimator {name} waits for the end of episodes, which {sampler} cut: use "
            f"estimator=GAE(gae_lambda=1.0), or sampler=Episodes() with {name}"
        )
    needed, m = config.estimator.min_trajectories, config.sampler.width
    check_int(f"sampler {type(config.sampler).__name__}.width", m, 1)
    if m < needed:
        baseline = parts(config.estimator).get("baseline", "none") != "none"
        instead = "; estimator.baseline='none' works with one" if baseline else ""
        raise ValueError(
            f"sampler.{config.sampler.width_field} must be at least {needed} for estimator "
            f"{type(config.estimator).__name__}, got {m}{instead}"
        )
    _check_params(config)


def _check_estimator(estimator: Estimator) -> None:
    """Raises unless an estimator's `critic` is known, and its `weights` takes such values."""
    name, critic = type(estimator).__name__, estimator.critic
    if critic not in (None, "states", "actions"):
        message = unknown(f"critic {shown(critic)}", critic, ("states", "actions"))
        raise ValueError(f"estimator {name}: {message}")
    check_int(f"estimator {name}.min_trajectories", estimator.min_trajectories, 1)
    signature = inspect.signature(estimator.weights)
    arguments = ("trajectories",) if critic is None else ("trajectories", "values")
    try:
        signature.bind(*arguments)
    except TypeError:
        parameters = ", ".join(signature.parameters)
        raise TypeError(
            f"estimator {name} has critic={shown(critic)}, with which its weights gets "
            f"({', '.join(arguments)}), but it takes ({parameters})"
        ) from None


def _check_params(config: Config) -> None:
    defaults = interface.default_params(config.env)
    interface.check_own(config.env, config.env_params)
    if config.env_params is not None and type(config.env_params) is not type(defaults):
        raise TypeError(
            f"env_params must be a {type(defaults).__name__}, got {shown(config.env_params)}"
        )
    for update in schedules.turns(config.env_params, config.num_updates):
        params = schedules.resolve(config, update).env_params
        with _said_of(update):
            parameters.check(params, defaults)
            # Checked while bounds are numbers: later they are traced.
            interface.action_bounds(config.env, params)


def _check_numbers(config: Config) -> None:
    """Raises unless the components' numbers are allowed, those of schedules at every update."""
    schedules.check(config)
    for update in schedules.turns(config, config.num_updates):
        resolved = schedules.resolve(config, update)
        # Numbers compare as numbers, also while something else is traced.
        with _said_of(update), jax.ensure_compile_time_eval():
            wrapper.check("env", resolved.env)
            for name in _COMPONENTS:
                getattr(resolved, name).check(name)


@contextlib.contextmanager
def _said_of(update: int) -> Iterator[None]:
    """Adds the update of a schedule to a ValueError's message."""
    try:
        yield
    except ValueError as error:
        suffix = f", at update {update} of its schedule" if update else ""
        raise ValueError(f"{error}{suffix}") from None


def _check_sizes(config: Config, env_params: PyTree, error: Exception) -> None:
    """Raises TypeError if an environment failed because an integer parameter was traced."""

    def works(constant: tuple[int, ...]) -> bool:
        """Whether the environment works if the parameters with these indices are constants."""

        def check(traced: list[Array]) -> None:
            mixed = [leaves[i][1] if i in constant else leaf for i, leaf in enumerate(traced)]
            params = parameters.joined(jax.tree.unflatten(structure, mixed))
            interface.check(interface.bind(config.env, params))

        try:
            jax.eval_shape(check, [leaf for _, leaf in leaves])
        except TypeError:
            return False
        return True

    constants = parameters.constants(parameters.split(env_params))
    leaves, structure = jax.tree_util.tree_flatten_with_path(constants)
    integers = tuple(i for i, (_, leaf) in enumerate(leaves) if isinstance(leaf, np.integer))
    if not integers or not works(integers):
        return
    # One parameter if that alone is the cause; else all that may be.
    causes = next(((i,) for i in integers if works((i,))), integers)
    names = ", ".join(f"env_params{jax.tree_util.keystr(leaves[i][0])}" for i in causes)
    raise TypeError(
        f"{names} is used as a Python number, to size or to branch, and cannot be traced: mark the "
        "field as static, flax.struct.field(pytree_node=False), or make it an argument of the "
        f"environment ({type(error).__name__})"
    ) from error


def _array(path: tuple, leaf: Any) -> Array:
    """A leaf as an array of JAX's default float, or, in `env_params`, of its own dtype."""
    if path[0].name != "env_params":
        return jnp.asarray(leaf, float)
    return jnp.asarray(leaf, jax.dtypes.canonicalize_dtype(jnp.result_type(leaf)))
