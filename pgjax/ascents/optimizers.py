"""Optimizers: Optax, with the learning rate traced and the sign turned once."""

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from pgjax.core.components import Component, component, option
from pgjax.core.contracts import changes, describe, is_array, is_real_of
from pgjax.core.identities import described
from pgjax.core.names import shown
from pgjax.core.trees import norm
from pgjax.core.types import Array, PyTree

MakeTransformation = Callable[[Any], optax.GradientTransformation]


# Optax states that keep hyperparameters, such as the learning rate, from `init` on.
_INJECTED = (
    optax.schedules.InjectHyperparamsState,
    optax.schedules.InjectStatefulHyperparamsState,
)

_Lookahead = optax.LookaheadState


class Loss(NamedTuple):
    """The loss −U, for those of Optax's optimizers that need more than a gradient.

    Its value comes from the returns, its change near θ from the objective.

    Attributes:
      value: float[]; the loss at the parameters of the step.
      grad: its gradient at the parameters of the step, like the parameters.
      value_fn: parameters -> float[], from the same trajectories; differentiable, and `value` at
        the parameters of the step.
    """

    value: Array
    grad: PyTree
    value_fn: Callable[[PyTree], Array]


def _clip(max_norm: Any) -> optax.GradientTransformation:
    """`optax.clip_by_global_norm`, also correct if the gradient's squares are out of range."""

    def clip(gradient: PyTree) -> PyTree:
        size = norm(gradient)
        within = size <= max_norm
        return jax.tree.map(
            lambda x: jnp.where(within, x, x / jnp.where(within, 1.0, size) * max_norm), gradient
        )

    return optax.stateless(lambda gradient, params: clip(gradient))


class Optimizer(Component):
    """Base of optimizers: a learning rate α, a bound on the gradient, and an Optax factory."""

    learning_rate: float
    max_gradient_norm: float | None
    if TYPE_CHECKING:  # a field of `Custom` only, and so no flag of the others
        make: MakeTransformation

    def transformation(self) -> optax.GradientTransformation:
        """Optax's transformation, for descent: clipping by the global norm, if any, then the step.

        Raises:
          TypeError: the factory does not make a transformation.
        """
        try:
            step = self.make(self.learning_rate)
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"optimizer {described(self.make)} makes nothing of a learning rate alone: {error}"
            ) from error
        if isinstance(step, optax.MultiSteps):
            step = step.gradient_transformation()
        if not isinstance(step, optax.GradientTransformation):
            raise TypeError(
                "optimizer must make an optax.GradientTransformation from a learning rate, "
                f"{described(self.make)} made {shown(step)}"
            )
        if self.max_gradient_norm is None:
            return step
        return optax.chain(_clip(self.max_gradient_norm), step)

    def init(self, params: PyTree) -> PyTree:
        """The first Optax state for parameters."""
        return self.transformation().init(params)

    def ascend(
        self, gradient: PyTree, opt_state: PyTree, params: PyTree, loss: Loss
    ) -> tuple[PyTree, PyTree]:
        """θ ← θ + α ∇U for plain SGD; in general, Optax's step for −∇U.

        Hyperparameters that `optax.inject_hyperparams` keeps in the state are replaced by the
        config's.

        Returns:
          The new parameters and Optax state.
        """
        step = optax.with_extra_args_support(self.transformation())
        if any(isinstance(node, _INJECTED) for node in _states(opt_state)):
            opt_state = _renewed(opt_state, step.init(params))
        descent = jax.tree.map(jnp.negative, gradient)
        extra = _accepted(step.update, loss._asdict())
        updates, opt_state = step.update(descent, opt_state, params, **extra)
        _check_updates(updates, params)
        return optax.apply_updates(params, updates), opt_state

    def check_step(self, params: PyTree) -> None:
        """Raises TypeError, while tracing, unless a step keeps the parameters' shape and dtype."""
        step = self.transformation()

        def try_step(params):
            opt_state = step.init(params)
            if any(isinstance(node, _Lookahead) for node in _states(opt_state)):
                raise TypeError("lookahead has two sets of parameters, fast and slow; here is one")
            _check_arrays(opt_state)
            moved, after = self.ascend(params, opt_state, params, _quadratic(params))
            for path, old, new in changes(opt_state, after):
                raise TypeError(f"its state changes from init to update: {path}{old} became {new}")
            return moved

        try:
            moved = jax.eval_shape(try_step, params)
        except Exception as error:  # Optax's, or the user's own, of any type
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise TypeError(
                f"optimizer {described(self.make)} makes no step of these parameters: {reason}"
            ) from error
        actual, expected = (
            jax.tree.map(lambda x: (x.shape, x.dtype), tree) for tree in (moved, params)
        )
        if actual != expected:
            raise TypeError(
                f"optimizer {described(self.make)} must keep the parameters' shapes and dtypes, "
                f"{expected}, got {actual}"
            )


def check_factory(value: Any) -> None:
    """Raises TypeError for an Optax export that is not a factory of a learning rate."""
    if isinstance(value, (optax.GradientTransformation, optax.MultiSteps)):
        raise TypeError(
            "optimizer is made already, and its learning rate would be no setting of the config: "
            "give what makes it, for instance optimizer=optax.adam, or lambda rate: "
            "optax.MultiSteps(optax.adam(rate), 4)"
        )
    module = getattr(value, "__module__", None) or ""
    if not inspect.isroutine(value) or not module.startswith("optax."):
        return
    first = next(iter(inspect.signature(value).parameters), "nothing")
    if "learning_rate" not in first:
        raise TypeError(
            f"optimizer optax's {value.__name__} takes {first}, not a learning rate: give a "
            "function of one that uses it, lambda rate: …"
        )


def _quadratic(params: PyTree) -> Loss:
    """½ |θ|², the loss of a trial step."""

    def value_fn(params):
        return jnp.asarray(0.5 * sum(jnp.sum(jnp.square(x)) for x in jax.tree.leaves(params)))

    return Loss(value_fn(params), params, value_fn)


def _check_arrays(opt_state: PyTree) -> None:
    """Raises TypeError unless a state's leaves are arrays."""
    for leaf in jax.tree.leaves(opt_state):
        if not is_array(leaf):
            raise TypeError(f"its state must be a pytree of arrays, got {describe(leaf)}")


def _check_updates(updates: PyTree, params: PyTree) -> None:
    """Raises TypeError unless updates are real numbers in the parameters' shapes."""
    pairs = jax.tree.leaves(updates), jax.tree.leaves(params)
    for update, param in zip(*pairs, strict=False):
        if not is_real_of(update, param.shape):
            raise TypeError(
                f"its updates must be real numbers of the parameters' shapes, {param.shape}, "
                f"got {describe(update)}"
            )


def _accepted(update: Callable, extra: dict[str, Any]) -> dict[str, Any]:
    """The extra arguments that an Optax update takes; most take all."""
    parameters = inspect.signature(update).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return extra
    names = {parameter.name for parameter in parameters}
    return {name: value for name, value in extra.items() if name in names}


def _states(opt_state: PyTree) -> list[Any]:
    """Leaves of an Optax state; states with hyperparameters, and Lookahead's, count as leaves."""
    classes = (*_INJECTED, _Lookahead)
    return jax.tree.leaves(opt_state, is_leaf=lambda node: isinstance(node, classes))


def _renewed(opt_state: PyTree, fresh: PyTree) -> PyTree:
    """An Optax state with the injected hyperparameters of another."""

    def renew(old, new):
        if not isinstance(old, _INJECTED):
            return old
        inner = _renewed(old.inner_state, new.inner_state)
        return old._replace(hyperparams=new.hyperparams, inner_state=inner)

    return jax.tree.map(renew, opt_state, fresh, is_leaf=lambda node: isinstance(node, _INJECTED))


@component
class Adam(Optimizer):
    """`optax.adam`.

    Attributes:
      learning_rate: α ≥ 0, the step size.
      max_gradient_norm: bound ≥ 0 on the gradient's global 2-norm, or None.
    """

    learning_rate: float = option(1e-2, low=0.0)
    max_gradient_norm: float | None = option(None, low=0.0)

    make = staticmethod(optax.adam)


@component
class SGD(Optimizer):
    """`optax.sgd`: θ ← θ + α ∇U.

    Attributes:
      learning_rate: α ≥ 0, the step size.
      max_gradient_norm: bound ≥ 0 on the gradient's global 2-norm, or None.
    """

    learning_rate: float = option(1e-2, low=0.0)
    max_gradient_norm: float | None = option(None, low=0.0)

    make = staticmethod(optax.sgd)


@component
class Custom(Optimizer):
    """Any Optax factory. `Config(optimizer=factory)` makes one.

    Attributes:
      make: learning_rate -> optax.GradientTransformation, for instance `optax.rmsprop`.
      learning_rate: α ≥ 0, the step size.
      max_gradient_norm: bound ≥ 0 on the gradient's global 2-norm, or None.
    """

    make: MakeTransformation
    learning_rate: float = option(1e-2, low=0.0)
    max_gradient_norm: float | None = option(None, low=0.0)
