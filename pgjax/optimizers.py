"""Optimizers: Optax, with the learning rate traced and the sign turned once."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from pgjax.components import Component, component, option
from pgjax.trees import norm
from pgjax.types import PyTree

MakeTransformation = Callable[[Any], optax.GradientTransformation]


def _clipped(most: Any) -> optax.GradientTransformation:
    """`optax.clip_by_global_norm`, of gradients whose squares are out of range as of any other."""

    def clip(gradient: PyTree) -> PyTree:
        size = norm(gradient)
        within = size <= most
        return jax.tree.map(
            lambda x: jnp.where(within, x, x / jnp.where(within, 1.0, size) * most), gradient
        )

    return optax.stateless(lambda gradient, params: clip(gradient))


class Optimizer(Component):
    """Base: a learning rate α, an optional bound on the gradient, and an Optax factory."""

    learning_rate: float
    max_gradient_norm: float | None

    def transformation(self) -> optax.GradientTransformation:
        """Clipping by the global 2-norm, if any, then the optimizer; made for descent, as Optax is.

        Raises:
          TypeError: the factory makes something else.
        """
        step = self.make(self.learning_rate)
        if not isinstance(step, optax.GradientTransformation):
            raise TypeError(
                "optimizer must make an optax.GradientTransformation from a learning rate, "
                f"{self.make!r} made {step!r}"
            )
        if self.max_gradient_norm is None:
            return step
        return optax.chain(_clipped(self.max_gradient_norm), step)

    def init(self, params: PyTree) -> PyTree:
        """The Optax state of parameters."""
        return self.transformation().init(params)

    def ascend(self, gradient: PyTree, opt_state: PyTree, params: PyTree) -> tuple[PyTree, PyTree]:
        """θ ← θ + α ∇U, for plain SGD; whatever Optax makes of −∇U in general.

        Returns:
          The new parameters and Optax state.
        """
        descent = jax.tree.map(jnp.negative, gradient)
        updates, opt_state = self.transformation().update(descent, opt_state, params)
        return optax.apply_updates(params, updates), opt_state


@component
class Adam(Optimizer):
    """`optax.adam`.

    Attributes:
      learning_rate: α ≥ 0.
      max_gradient_norm: bound ≥ 0 on the gradient's global 2-norm, or None.
    """

    learning_rate: float = option(1e-2, low=0.0)
    max_gradient_norm: float | None = option(None, low=0.0)

    @property
    def make(self) -> MakeTransformation:
        """learning_rate -> GradientTransformation."""
        return optax.adam


@component
class SGD(Optimizer):
    """`optax.sgd`: θ ← θ + α ∇U.

    Attributes:
      learning_rate: α ≥ 0.
      max_gradient_norm: bound ≥ 0 on the gradient's global 2-norm, or None.
    """

    learning_rate: float = option(1e-2, low=0.0)
    max_gradient_norm: float | None = option(None, low=0.0)

    @property
    def make(self) -> MakeTransformation:
        """learning_rate -> GradientTransformation."""
        return optax.sgd


@component
class Custom(Optimizer):
    """Any Optax factory. `Config(optimizer=factory)` makes one.

    Attributes:
      make: learning_rate -> optax.GradientTransformation, for instance `optax.rmsprop`.
      learning_rate: α ≥ 0.
      max_gradient_norm: bound ≥ 0 on the gradient's global 2-norm, or None.
    """

    make: MakeTransformation
    learning_rate: float = option(1e-2, low=0.0)
    max_gradient_norm: float | None = option(None, low=0.0)
