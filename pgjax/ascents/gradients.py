"""The m-trajectory policy gradient, by `jax.grad` of the Monte Carlo objective.

    objective(θ) = (1/m) Σ_i Σ_t contribution(log π_θ(a_t | s_t), H[π_θ(· | s_t)], w_t)

For whole episodes, it is a sum over t and a mean over the m trajectories. Segments have no whole
episode to sum over, and take the mean over their valid steps: see each sampler's `divisor`.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from pgjax.ascents.optimizers import Loss
from pgjax.core import chunks
from pgjax.core.chunks import Chunk, per_row, per_step, summed
from pgjax.core.components import record
from pgjax.core.contracts import is_float_of, is_real_of, require, require_free_names
from pgjax.core.trees import dot
from pgjax.core.types import Array, PyTree, Trajectories
from pgjax.critics.base import BoundCritic
from pgjax.estimators.estimator import Estimator, Values
from pgjax.objectives.objective import Objective, Reporter, Step
from pgjax.policies.policy import Policy
from pgjax.sampling.sampler import Sampler


class Gradient(NamedTuple):
    """A gradient, with the means over the same steps.

    Attributes:
      direction: ∇U, like the parameters.
      objective: float[]; the objective's value.
      entropy: float[]; mean entropy over valid steps, nats.
      extra: means over valid steps of the metrics that objective and ascent report.
    """

    direction: PyTree
    objective: Array
    entropy: Array
    extra: dict[str, Array]


class Batch(NamedTuple):
    """Steps to learn from, in the windows of `Policy.windowed`.

    Attributes:
      data: the inputs of each step's contribution, besides the parameters.
      valid: whether each step counts.
    """

    data: PyTree
    valid: Array


@record
class Terms:
    """The parts of the objective that are the same for all steps.

    Attributes:
      policy, variables: π_θ, and its collections other than the parameters.
      objective: gives the contributions that are summed.
      ascent: reports metrics besides the objective's.
      critic, critic_state: a critic whose loss is subtracted if it is joint.
    """

    policy: Policy
    variables: PyTree
    objective: Objective
    ascent: Reporter
    critic: BoundCritic
    critic_state: PyTree

    def sums(self, params: PyTree, chunk: Chunk) -> tuple[Array, tuple[Array, dict[str, Array]]]:
        """Sums over a chunk: of the contributions; and of the entropy and the reported metrics."""
        obs, memory, action, old_log_prob, weight, lesson, time = chunk.data
        valid, weight = chunk.valid, jax.lax.stop_gradient(weight)
        all_actions = weight.ndim > valid.ndim  # a weight for each action, not for the sampled one

        def score(distribution, action):
            log_probs = distribution.log_probs() if all_actions else ()
            return distribution.log_prob(action), log_probs, distribution.entropy()

        variables = {"params": params, **self.variables}
        outputs = self.policy.outputs_of_steps(variables, obs, memory, valid)
        log_prob, log_probs, entropy = per_step(score, chunk.valid)(outputs.distribution, action)
        step = Step(
            log_prob=log_prob,
            # A ratio of 1 in rows without an action, where the exponential might overflow.
            old_log_prob=jnp.where(valid, old_log_prob, jax.lax.stop_gradient(log_prob)),
            entropy=entropy,
            weight=jnp.sum(weight, axis=-1) if all_actions else weight,
            time=time,
        )
        extra = _reported("objective", self.objective, step)
        extra = self.with_report(extra, _reported("ascent", self.ascent, step))
        if all_actions:
            total = self._sum_over_actions(step, log_probs, weight, valid)
        else:
            total = self._sum_contributions(step, valid)
        if self.critic.joint:
            loss = per_step(self._critic_loss, chunk.valid)
            total -= _sum(loss(outputs.value, lesson), chunk.valid)
        return total, (_sum(entropy, valid), {name: _sum(x, valid) for name, x in extra.items()})

    def _sum_over_actions(self, step: Step, log_probs: Array, weight: Array, valid: Array) -> Array:
        """The sum of all actions' contributions, given their log_probs and weights, [n, A]."""
        steps = Step(
            log_prob=log_probs,
            # Old log-probabilities of all actions are not stored: ratios are those at θ_old, 1.
            old_log_prob=jax.lax.stop_gradient(log_probs),
            # Each action gets an equal part of the step's entropy.
            entropy=step.entropy[..., None] / weight.shape[-1],
            weight=weight,
            time=step.time[..., None],
        )
        return self._sum_contributions(steps, valid[..., None])

    def _critic_loss(self, output: PyTree, lesson: PyTree) -> Array:
        """A joint critic's loss for one step: float[]."""
        loss = self.critic.loss(self.critic_state, output, lesson)
        right = is_float_of(loss, ())
        require(right, "critic", self.critic, "loss", "one step's loss, float[]", loss)
        return loss

    def with_report(self, extra: dict[str, Array], report: dict[str, Array]) -> dict[str, Array]:
        """The objective's metrics together with the ascent's.

        Raises:
          ValueError: both report a metric of the same name.
        """
        for name in sorted(extra.keys() & report.keys()):
            raise ValueError(
                f"objective {type(self.objective).__name__} and ascent "
                f"{type(self.ascent).__name__} both report {name!r}: give one of them another name"
            )
        return {**extra, **report}

    def _sum_contributions(self, steps: Step, valid: Array) -> Array:
        """The sum of the contributions of the valid steps: float[]."""
        contribution = self.objective.contribution(steps)
        _check_contribution(self.objective, contribution, steps)
        return _sum(contribution, valid)


@dataclasses.dataclass(frozen=True)
class Surrogate:
    """The objective of one update's trajectories, as a function of the parameters.

    Attributes:
      terms: the parts that are the same for all steps.
      estimator, values: give the weights of the trajectories.
      trajectories: this update's.
      lesson: the targets of a joint critic, [T, m, …]; else ().
      sampler: its `divisor` divides a sum over steps to give the objective.
      mesh: every device sums its own trajectories.
    """

    terms: Terms
    estimator: Estimator
    values: Values
    trajectories: Trajectories
    lesson: PyTree
    sampler: Sampler
    mesh: Mesh | None

    def batch(self, params: PyTree = None) -> Batch:
        """All steps.

        Args:
          params: the parameters for weights that follow the policy; None: those that sampled.
        """
        tau = self.trajectories
        steps = tau.obs, tau.memory, tau.action, tau.log_prob
        data = *steps, self.weights(params), self.lesson, chunks.row_numbers(tau.valid)
        return Batch(*self.terms.policy.windowed(data, tau.valid))

    def minibatches(self, key: Array, number: int, params: PyTree) -> Batch:
        """All steps dealt out to minibatches, each leaf [number, …]; see `chunks.minibatches`."""
        return Batch(*chunks.minibatches(key, *self.batch(params), number, self.mesh))

    def weights(self, params: PyTree = None) -> Array:
        """w_t of each step: float[T, m], or [T, m, A] with a weight for each action."""
        tau, estimator = self.trajectories, self.estimator
        values = self.values
        if estimator.follows_policy:
            log_prob = tau.log_prob if params is None else self._log_prob(params)
            values = values._replace(log_prob=log_prob)
        needs_values = estimator.critic is not None or estimator.follows_policy
        weights = estimator.weights(tau, *((values,) if needs_values else ()))
        axes, shape = "T, m", tau.valid.shape
        if estimator.all_actions:
            axes, shape = "T, m, A", (*shape, self.terms.policy.head.num_actions or 0)
        contract = f"[{axes}] with {axes} = {shape}"
        require(is_real_of(weights, shape), "estimator", estimator, "weights", contract, weights)
        objective = self.terms.objective
        weights, contract = objective.weights(weights, tau.valid), f"real numbers of shape {shape}"
        require(is_real_of(weights, shape), "objective", objective, "weights", contract, weights)
        return weights

    def gradient(self, params: PyTree, batch: Batch, share: float = 1.0) -> Gradient:
        """The gradient at parameters, from a batch or a minibatch with a `share` of its rows."""
        gradient, (objective, entropy, extra) = self._summed(_gradient_sums, params, batch)
        # A minibatch of windows may have no valid step.
        number = jnp.maximum(jnp.sum(batch.valid), 1)
        factor = 1.0 / self._divisor(batch.valid, share)
        return Gradient(
            direction=jax.tree.map(lambda x: x * factor, gradient),
            objective=objective * factor,
            entropy=entropy / number,
            extra=jax.tree.map(lambda x: x / number, extra),
        )

    def loss(self, gradient: Gradient, params: PyTree, batch: Batch, share: float = 1.0) -> Loss:
        """−U near `params`: at `params` the negative mean return, elsewhere changed as −objective.

        Args:
          gradient: the gradient at `params`.
        """
        tau = self.trajectories
        rewards = jnp.where(tau.valid, tau.reward, 0.0)
        value = -jnp.sum(rewards) / self._divisor(tau.valid)

        # Sums over chunks are loops without a reverse mode; the objective's gradient is at hand.
        @jax.custom_jvp
        def value_fn(params):
            return value + gradient.objective - self.gradient(params, batch, share).objective

        @value_fn.defjvp
        def tangent(primals, tangents):
            (params,), (change,) = primals, tangents
            new = self.gradient(params, batch, share)
            slope = dot(new.direction, change)
            return value + gradient.objective - new.objective, -slope

        return Loss(value, jax.tree.map(jnp.negative, gradient.direction), value_fn)

    def per_step(self, batch: Batch) -> Array:
        """The factor from the objective to a mean over valid steps: float[]."""
        number = jnp.maximum(jnp.sum(batch.valid), 1)
        return self._divisor(batch.valid) / number

    def fisher_product(self, params: PyTree, v: PyTree, batch: Batch) -> PyTree:
        """F v, F the mean over valid steps of ∇² KL(π_old(· | s) ‖ π_θ(· | s)) at θ = θ_old."""
        sums = self._summed(_fisher_product, (v, params), batch)
        number = jnp.maximum(jnp.sum(batch.valid), 1)
        return jax.tree.map(lambda x: x / number, sums)

    def divergence_and_gain(
        self, params: PyTree, old_params: PyTree, batch: Batch
    ) -> tuple[Array, Array]:
        """Means over valid steps: of KL(π_old ‖ π_θ) in nats, and of the gain in contributions."""
        sums = self._summed(_divergence_and_gain, (params, old_params), batch)
        number = jnp.maximum(jnp.sum(batch.valid), 1)
        return jax.tree.map(lambda x: x / number, sums)

    def _divisor(self, valid: Array, share: float = 1.0) -> float | Array:
        """The sampler's divisor; raises ValueError unless it is a positive number."""
        divisor = self.sampler.divisor(valid, share)
        right = is_real_of(divisor, ()) and not (isinstance(divisor, (int, float)) and divisor <= 0)
        require(right, "sampler", self.sampler, "divisor", "a positive number", divisor)
        return divisor

    def _summed(self, function: Any, arguments: PyTree, batch: Batch) -> Any:
        ragged = self.sampler.whole_episodes
        return summed(function, (arguments, self.terms), *batch, ragged, self.mesh)

    def _log_prob(self, params: PyTree) -> Array:
        """log π_θ(a_t | s_t) of each step: float[T, m]."""
        tau, policy = self.trajectories, self.terms.policy
        variables = {"params": params, **self.terms.variables}
        data, valid = policy.windowed((tau.obs, tau.memory, tau.action), tau.valid)

        def score(row):
            (obs, memory, action), valid = row
            distributions = policy.outputs_of_steps(variables, obs, memory, valid).distribution
            return per_step(lambda pi, action: pi.log_prob(action), valid)(distributions, action)

        if valid.ndim == 2:
            return per_row(score, (data, valid), valid)
        log_prob = jax.vmap(lambda *row: score(row))(data, valid)  # [T / L, m, L]
        rows, m = tau.valid.shape
        return jnp.moveaxis(log_prob, 2, 1).reshape(-1, m)[:rows]


def _gradient_sums(context: tuple[PyTree, Terms], chunk: Chunk) -> tuple[PyTree, tuple]:
    params, terms = context
    (objective, metrics), gradient = jax.value_and_grad(terms.sums, has_aux=True)(params, chunk)
    return gradient, (objective, *metrics)


def _fisher_product(context: tuple[PyTree, Terms], chunk: Chunk) -> PyTree:
    """A chunk's Σ ∇² KL(π_old ‖ π_θ) v at θ = θ_old: the gradient's derivative along v."""
    (v, params), terms = context

    def divergence(moved):
        return _divergence_and_gain(((moved, params), terms), chunk)[0]

    # A network's parameters may have another precision than the gradient.
    v = jax.tree.map(lambda x, p: x.astype(p.dtype), v, params)
    return jax.jvp(jax.grad(divergence), (params,), (v,))[1]


def _divergence_and_gain(context: tuple[PyTree, Terms], chunk: Chunk) -> tuple[Array, Array]:
    """A chunk's Σ KL(π_old ‖ π_θ) in nats, and the gain in its contributions."""
    (params, old_params), terms = context
    obs, memory, action, _, weight, _, time = chunk.data

    def compare(new, old, action, weight, time):
        all_actions = weight.ndim > 0
        new_log_prob, old_log_prob = (
            pi.log_probs() if all_actions else pi.log_prob(action) for pi in (new, old)
        )
        parts = weight.shape[0] if all_actions else 1

        def contribution(log_prob, distribution):
            entropy = distribution.entropy() / parts
            step = Step(log_prob, old_log_prob, entropy, weight, time)
            return terms.objective.contribution(step)

        gain = contribution(new_log_prob, new) - contribution(old_log_prob, old)
        return old.divergence(new), jnp.sum(gain)

    new, old = (
        terms.policy.outputs_of_steps({"params": tree, **terms.variables}, obs, memory, chunk.valid)
        for tree in (params, old_params)
    )
    distributions = new.distribution, old.distribution
    results = per_step(compare, chunk.valid)(*distributions, action, weight, time)
    return jax.tree.map(lambda x: jnp.sum(jnp.where(chunk.valid, x, 0.0)), results)


def _check_contribution(objective: Objective, contribution: Any, step: Step) -> None:
    shape = step.log_prob.shape
    contract = f"one float for each of the steps {shape}"
    right = is_float_of(contribution, shape)
    require(right, "objective", objective, "contribution", contract, contribution)


def _reported(part: str, reporter: Reporter, step: Step) -> dict[str, Array]:
    """The metrics of each step that an objective or an ascent reports."""
    report, shape = reporter.report(step), step.log_prob.shape
    require(isinstance(report, dict), part, reporter, "report", "a dict of arrays by name", report)
    for name, x in report.items():
        right = isinstance(name, str) and is_real_of(x, shape)
        contract = f"one number for each of the steps {shape}"
        require(right, part, reporter, f"report, {name!r}", contract, x)
    require_free_names(part, reporter, "report", report)
    return report


def _sum(values: Array, valid: Array) -> Array:
    return jnp.sum(jnp.where(valid, values, 0.0))
