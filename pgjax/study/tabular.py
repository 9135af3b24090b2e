"""Exact answers for a `FiniteMDP`, by dynamic programming; differentiable by JAX."""

import dataclasses

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Float

from pgjax.core.names import shown
from pgjax.core.types import Array, PyTree, Scalar, TrainState
from pgjax.environments.finite_mdp import FiniteMDP, MDPParams
from pgjax.policies import distributions
from pgjax.policies.networks import has_memory
from pgjax.training.bound import Bound
from pgjax.training.config import Config, bind, checked
from pgjax.training.training import ACTING, check_state


def expected_return(
    probabilities: Float[ArrayLike, "S A"], mdp: FiniteMDP | MDPParams, discount: Scalar = 1.0
) -> Float[Array, ""]:
    """The exact utility of a policy, with which estimates are compared.

        U = E[R(τ)] = Σ_s p(s_0 = s) Σ_a π(a | s) Q_0(s, a)

    Args:
      probabilities: float[S, A]; π(a | s).
      mdp: a `FiniteMDP`, or its params (traced, if wanted).
      discount: γ in [0, 1]; R(τ) = Σ_t γᵗ r_t.

    Returns:
      float[], reward units.

    Raises:
      ValueError: probabilities of another shape than [S, A].

    >>> import pgjax, jax.numpy as jnp
    >>> bandit = pgjax.FiniteMDP([[[1.0], [1.0]]], [[0.0, 1.0]], [1.0], horizon=1)
    >>> print(expected_return(jnp.array([[0.25, 0.75]]), bandit))
    0.75

    Source: Sutton & Barto (2018), eqs. 3.14 and 4.4, for a finite horizon.
    """
    first = action_values(probabilities, mdp, discount)[0]
    return _params(mdp).initial @ jnp.sum(probabilities * first, axis=1)


def action_values(
    probabilities: Float[ArrayLike, "S A"], mdp: FiniteMDP | MDPParams, discount: Scalar = 1.0
) -> Float[Array, "H S A"]:
    """Q of a policy at each time, of which `RewardToGo` is a sample.

        Q_t(s, a) = R(s, a) + γ Σ_s' p(s' | s, a) V_{t+1}(s')
        V_t(s) = Σ_a π(a | s) Q_t(s, a) for s not terminal, 0 for s terminal;    V_H = 0

    Args:
      probabilities: float[S, A]; π(a | s).
      mdp: a `FiniteMDP`, or its params.
      discount: γ in [0, 1].

    Returns:
      float[H, S, A], reward units.

    Raises:
      ValueError: probabilities of another shape than [S, A].

    Source: Sutton & Barto (2018), eq. 4.4, for a finite horizon.
    """
    params = _params(mdp)
    if jnp.shape(probabilities) != params.reward.shape:
        expected, given = list(params.reward.shape), list(jnp.shape(probabilities))
        raise ValueError(f"probabilities must have shape [S, A] = {expected}, got {given}")

    def backward(next_values, _):
        q = params.reward + discount * (params.transition @ next_values)
        values = jnp.where(params.terminal, 0.0, jnp.sum(probabilities * q, axis=1))
        return values, q

    horizon = int(params.max_steps_in_episode)
    last_values = jnp.zeros_like(params.initial)  # V_H
    _, q_values = jax.lax.scan(backward, last_values, length=horizon, reverse=True)
    return q_values


def action_probabilities(state: TrainState, config: Config) -> Float[Array, "S A"]:
    """π(a | s) of a trained policy in every state of the config's `FiniteMDP`: float[S, A]."""
    mdp = _required_mdp(config)
    config = checked(config)
    check_state(state, config, ACTING)
    bound = bind(config, state.num_updates)
    return _probabilities(state.params, state.variables, mdp, bound)


def policy_gradient(state: TrainState, config: Config) -> PyTree:
    """The exact gradient ∇_θ U(θ) of the utility discounted by `config.estimator.discount`.

    `pgjax.policy_gradient` estimates it: without bias, where the estimator says so.

    Args:
      state: its params are θ.
      config: `env` is a `FiniteMDP`; horizon and discount are taken from it too.

    Returns:
      The gradient, like `state.params`.

    Raises:
      TypeError: another environment.

    Source: Sutton et al. (2000), policy gradient theorem; here by differentiating U itself.
    """
    mdp = _required_mdp(config)
    config = checked(config)
    check_state(state, config, ACTING)
    bound = bind(config, state.num_updates)
    tables = mdp.default_params if config.env_params is None else bound.environment.params
    tables = dataclasses.replace(tables, max_steps_in_episode=bound.horizon())

    def utility(params):
        probabilities = _probabilities(params, state.variables, mdp, bound)
        return expected_return(probabilities, tables, bound.estimator.discount)

    return jax.grad(utility)(state.params)


def _probabilities(
    params: PyTree, variables: PyTree, mdp: FiniteMDP, bound: Bound
) -> Float[Array, "S A"]:
    num_states = mdp.observation_space().shape[0]
    memory = bound.policy.initial_memory()

    def row(obs):
        distribution, _ = bound.policy.apply({"params": params, **variables}, obs, memory)
        return distributions.probabilities(distribution)

    return jax.vmap(row)(jnp.eye(num_states))


def _params(mdp: FiniteMDP | MDPParams) -> MDPParams:
    return mdp.default_params if isinstance(mdp, FiniteMDP) else mdp


def _required_mdp(config: Config) -> FiniteMDP:
    mdp = getattr(config, "env", None)
    if not isinstance(mdp, FiniteMDP):
        raise TypeError(f"tabular needs a config whose env is a FiniteMDP, got {shown(config)}")
    if config.time_aware or has_memory(config.network):
        raise TypeError(
            "tabular needs a policy that is a function of the state alone: without a memory, and "
            f"time_aware=False; got {shown(config)}"
        )
    return mdp
