"""Components of one's own: what a field may hold, and what is refused in one sentence."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import pgjax
from pgjax.training.config import checked

KEY = jax.random.key(0)


def config_of(**fields):
    small = {"network": pgjax.MLP((4,)), "num_updates": 1, "sampler": pgjax.Episodes(4)}
    return pgjax.Config("Catch-bsuite", **{**small, **fields})


@pgjax.component
class Factor(pgjax.Component):
    factor: float = pgjax.option(1.0, low=0.0)


@pgjax.component
class Scaled(pgjax.Estimator):
    """Rewards times an inner component's factor."""

    inner: Factor = Factor()

    def weights(self, trajectories):
        return trajectories.reward * self.inner.factor


def norm(config):
    state = pgjax.init(KEY, config)
    return pgjax.policy_gradient(KEY, state, config)[1].gradient_norm


def test_a_component_inside_a_component_is_traced():
    config = config_of(estimator=Scaled())
    assert jax.tree.leaves(config.estimator) == [1.0]
    once = norm(config)
    changed = config.replace(**{"estimator.inner.factor": 3.0})
    assert jax.tree.structure(changed) == jax.tree.structure(config)
    np.testing.assert_allclose(norm(changed), 3.0 * once, rtol=1e-5)
    schedule = pgjax.Schedule(optax.constant_schedule, value=2.0)
    falling = config.replace(**{"estimator.inner.factor": schedule})
    np.testing.assert_allclose(norm(falling), 2.0 * once, rtol=1e-5)
    factors = jnp.array([1.0, 2.0, 4.0])
    norms = jax.vmap(lambda x: norm(config.replace(**{"estimator.inner.factor": x})))(factors)
    np.testing.assert_allclose(norms, factors * once, rtol=1e-5)


def test_a_component_inside_a_component_is_checked():
    with pytest.raises(ValueError, match=r"^estimator\.inner\.factor must be .*got -1\.0$"):
        checked(config_of(estimator=Scaled(Factor(-1.0))))
    with pytest.raises(TypeError, match=r"^estimator\.inner must be .*derived from pgjax\.Factor"):
        checked(config_of(estimator=Scaled(2.0)))


@pgjax.component
class Holding(pgjax.Estimator):
    """Fields of every static kind, each with its own default."""

    numbers: tuple[float, ...] = (1.0, 2.0)
    sizes: tuple[int, ...] = (3,)
    function: Callable[[jax.Array], float] = jnp.sum
    count: int = pgjax.option(3, low=0, high=5)

    def weights(self, trajectories):
        return trajectories.reward * self.numbers[0]


def test_what_a_tuple_or_a_function_holds_makes_it_no_number():
    config = config_of(estimator=Holding())
    assert jax.tree.leaves(config.estimator) == []
    np.testing.assert_allclose(
        norm(config.replace(**{"estimator.numbers": (5.0,)})), 5.0 * norm(config), rtol=1e-5
    )


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"numbers": [1.0]}, TypeError, "hashable: a list is not; use a tuple"),
        ({"numbers": {"a": 1.0}}, TypeError, "hashable: a dict is not; use a tuple of pairs"),
        ({"numbers": np.ones(2)}, TypeError, "hashable: an array is not; use a tuple, or a float"),
        ({"numbers": jnp.ones(2)}, TypeError, "hashable: an array is not; use a tuple, or a float"),
        ({"count": 9}, ValueError, r"^estimator\.count must be at most 5, got 9$"),
        ({"count": -1}, ValueError, r"^estimator\.count must be at least 0, got -1$"),
    ],
)
def test_a_static_field_must_be_hashable_and_in_its_range(changes, kind, message):
    with pytest.raises(kind, match=message) as caught:
        pgjax.init(KEY, config_of(estimator=Holding(**changes)))
    assert str(caught.value).startswith("estimator.")
    assert "\n" not in str(caught.value)


class Undecorated(pgjax.Estimator):
    def weights(self, trajectories):
        return trajectories.reward


class Doubled(pgjax.GAE):
    def weights(self, trajectories, values):
        return 2 * super().weights(trajectories, values)


class Louder(pgjax.ScoreFunction):
    def contribution(self, step):
        return 2 * super().contribution(step)


class Slower(pgjax.Episodes):
    pass


class Careful(pgjax.Critic):
    pass


class Once(pgjax.GradientStep):
    pass


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("estimator", Undecorated()),
        ("estimator", Doubled()),
        ("objective", Louder()),
        ("sampler", Slower(4)),
        ("critic", Careful()),
        ("ascent", Once()),
    ],
    ids=lambda x: x if isinstance(x, str) else type(x).__name__,
)
def test_a_forgotten_decorator_is_named(field, value):
    sentence = f"^{field}: class {type(value).__name__} lacks the decorator @pgjax.component, which"
    with pytest.raises(TypeError, match=sentence):
        pgjax.init(KEY, config_of(**{field: value}))


def test_a_field_is_looked_for_in_the_component_that_has_just_been_put_in():
    message = (
        "unknown field 'critic.learning_rate' of SharedCritic; did you mean "
        "'optimizer.learning_rate'"
    )
    with pytest.raises(ValueError, match=message):
        config_of().replace(**{"critic": pgjax.SharedCritic(), "critic.learning_rate": 1e-3})


def test_a_field_of_others_of_its_family_names_them():
    message = (
        r"ascent is GradientStep\(\), without fields; max_kl is a field of Passes, TrustRegion$"
    )
    with pytest.raises(ValueError, match=message):
        config_of().replace(**{"ascent.max_kl": 0.1})


@pgjax.component
class Five(Undecorated):
    min_trajectories = 5


def test_too_few_trajectories_for_an_estimator_of_ones_own():
    with pytest.raises(ValueError, match=r"at least 5 for estimator Five, got 4$"):
        pgjax.init(KEY, config_of(estimator=Five()))
    with pytest.raises(ValueError, match=r"RewardToGo, got 1; estimator\.baseline='none' works"):
        pgjax.init(KEY, config_of(sampler=pgjax.Episodes(1)))
