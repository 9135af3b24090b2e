"""An environment whose parameters are drawn anew for each episode."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.core import FrozenDict

from pgjax.core.components import check_component, component, node, parts, replace, unknown
from pgjax.core.keys import derived
from pgjax.core.names import shown
from pgjax.core.types import Array, PyTree
from pgjax.environments import env_params as parameters
from pgjax.environments import spaces
from pgjax.environments.interface import Environment, Step
from pgjax.environments.wrappers.distributions import ParameterDistribution
from pgjax.environments.wrappers.wrapper import Wrapper, WrapperState

_LIMIT = "max_steps_in_episode"


@component
class Randomized(Wrapper):
    """Parameters of the environment drawn anew for each episode: domain randomisation.

        U(θ) = E_ξ [U_ξ(θ)],    ξ ~ the distributions, once an episode

    An episode keeps its parameters, which are in the environment's state. The other ones are those
    of the config's `env_params`, or the defaults. What is drawn from low = high is the same number
    as without the wrapper, and so is all that follows.

    The bounds of a distribution may be a `Schedule`: a curriculum. An evaluation draws from the
    distributions, too, those at the policy's update; for fixed numbers, evaluate with
    `config.replace(env=…, env_params=…)`, the environment inside and its parameters. The time limit
    sizes arrays and cannot be drawn, nor can what an environment uses as a Python number. Spaces
    are those of the parameters that are not drawn.

    Attributes:
      distributions: the parameter's name -> `Uniform`, `LogUniform`, `Normal`, `Choice`, or another
        `ParameterDistribution`; dotted paths reach into nested parameters. Parameters that are
        whole numbers or flags take a `Choice`.

    Source: Tobin et al. (2017), Domain randomization for transferring deep neural networks from
      simulation to the real world; Peng et al. (2018), of dynamics.

    >>> import pgjax
    >>> env = pgjax.Randomized("Pendulum-v1", {"g": pgjax.Uniform(5.0, 15.0)})
    >>> config = pgjax.Config(env=env, num_updates=3)
    """

    distributions: Mapping[str, ParameterDistribution] = node()

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.distributions, Mapping):
            object.__setattr__(self, "distributions", FrozenDict(self.distributions))

    def reset(self, key: Array) -> tuple[PyTree, WrapperState]:
        """An episode's start with parameters of its own."""
        drawn = self._drawn(derived(key, "parameters"))
        obs, inner = self._with(drawn).reset(key)
        return obs, WrapperState(inner, drawn)

    def step(self, key: Array, env_state: WrapperState, action: PyTree) -> Step:
        """The step inside with the episode's parameters."""
        step = self._with(env_state.own).step(key, env_state.inner, action)
        return step._replace(env_state=WrapperState(step.env_state, env_state.own))

    def restart(
        self, key: Array, obs: PyTree, env_state: WrapperState, running: Array
    ) -> tuple[PyTree, WrapperState]:
        """The next episode with other parameters, where one has ended."""
        new = self._drawn(derived(key, "parameters"))
        drawn = {name: jnp.where(running, env_state.own[name], new[name]) for name in new}
        obs, inner = self._with(drawn).restart(key, obs, env_state.inner, running)
        return obs, WrapperState(inner, drawn)

    def check(self, path: str) -> None:
        """Raises unless all distributions are allowed."""
        super().check(path)
        if not isinstance(self.distributions, Mapping) or not self.distributions:
            raise TypeError(
                f"{path}.distributions must be a dict from a parameter's name to a distribution, "
                f"got {_shown(self.distributions)}"
            )
        for name, distribution in self.distributions.items():
            inside = f"{path}.distributions.{name}"
            check_component(inside, distribution, ParameterDistribution).check(inside)

    def check_fit(self) -> None:
        """Raises unless the environment inside has these parameters, and lets them be drawn."""
        if self.inner.params is None:
            raise TypeError(f"{self.inner.name} has no parameters that could be drawn")
        for name, distribution in self.distributions.items():
            _check_drawn(self.inner, name, distribution)
        whole = [name for name in self.distributions if _kind(self.inner.params, name) == "int"]
        if whole and not _steps(self):
            raise TypeError(
                f"{' or '.join(whole)} of {self.inner.name} is used as a Python number, to size or "
                "to branch, and cannot be drawn"
            )

    def __repr__(self) -> str:
        return f"Randomized({self.env!r}, {dict(self.distributions)!r})"

    def _options(self) -> dict[str, Any]:
        return dict(self.distributions)

    def _drawn(self, key: Array) -> dict[str, Array]:
        """A value of each parameter, of the dtype of the one in its place."""
        drawn = {}
        for name, distribution in self.distributions.items():
            usual = _at(self.inner.params, name)
            value = distribution.sample(derived(key, name), np.shape(usual))
            dtype = jax.dtypes.canonicalize_dtype(jnp.result_type(usual))
            drawn[name] = jnp.asarray(value).astype(dtype)
        return drawn

    def _with(self, drawn: dict[str, Array]) -> Environment:
        return self.inner.bind(replace(self.inner.params, drawn))


def _check_drawn(env: Environment, name: str, distribution: ParameterDistribution) -> None:
    try:
        usual = _at(env.params, name)
    except KeyError:
        known = [path for path in _paths(env.params) if path != _LIMIT]
        raise ValueError(unknown(f"parameter {name!r} of {env.name}", name, known)) from None
    if name == _LIMIT:
        raise ValueError(f"{_LIMIT} of {env.name} sizes arrays, and cannot be drawn")
    kind = _kind(env.params, name)
    if kind not in ("float", "int", "bool"):
        raise TypeError(f"{name} of {env.name} cannot be drawn: it is {parameters.kind(usual)}")
    if kind != "float" and not distribution.whole:
        raise TypeError(
            f"{name} of {env.name} is {parameters.kind(usual)}: draw it from a Choice of whole "
            f"numbers, got {shown(distribution)}"
        )


def _kind(params: PyTree, name: str) -> str:
    return parameters.kind_of(_at(params, name))


def _at(params: PyTree, path: str) -> Any:
    return functools.reduce(lambda node, name: parts(node)[name], path.split("."), params)


def _paths(params: PyTree, prefix: str = "") -> list[str]:
    """The names of all parameters, dotted where they are nested."""
    inside = {prefix + str(name): child for name, child in parts(params).items()}
    nested = [_paths(child, f"{path}.") or [path] for path, child in inside.items()]
    return [path for paths in nested for path in paths]


def _steps(env: Environment) -> bool:
    """Whether an environment can be traced with parameters that are."""
    action = spaces.example(env.action_space)
    try:
        _, env_state = jax.eval_shape(env.reset, jax.random.key(0))
        jax.eval_shape(env.step, jax.random.key(0), env_state, action)
    except TypeError:
        return False
    return True


def _shown(distributions: Any) -> str:
    return shown(dict(distributions) if isinstance(distributions, Mapping) else distributions)
