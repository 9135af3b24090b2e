"""Components of one's own: what a field may hold, and what is refused in one sentence."""

import dataclasses
import math
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from environments_for_tests import Counter
from flax.core import FrozenDict

import pgjax
from pgjax.training.config import checked

KEY = jax.random.key(0)


ENV = Counter()


def config_of(**fields):
    small = {
        "network": pgjax.MLP(()),
        "optimizer": pgjax.SGD(0.1),
        "num_updates": 1,
        "sampler": pgjax.Episodes(4),
    }
    return pgjax.Config(ENV, **{**small, **fields})


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


@pytest.mark.slow
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
    with pytest.raises(TypeError, match=r"inner must be a component derived from Factor, got 2.0$"):
        checked(config_of(estimator=Scaled(2.0)))


@pgjax.component
class Summed(pgjax.Estimator):
    """Rewards times the sum of some components' factors."""

    parts: tuple[Factor, ...] = ()
    last: Factor | None = None

    def weights(self, trajectories):
        parts = [*self.parts, *([self.last] if self.last else [])]
        return trajectories.reward * sum(part.factor for part in parts)


def line(start, end):
    return pgjax.Schedule(
        optax.linear_schedule, init_value=start, end_value=end, transition_steps=1
    )


@pytest.mark.slow
def test_components_in_a_tuple_are_traced_and_take_schedules():
    config = config_of(estimator=Summed((Factor(1.0), Factor(2.0)), Factor(3.0)))
    assert jax.tree.leaves(config.estimator) == [1.0, 2.0, 3.0]
    np.testing.assert_allclose(norm(config), 6.0 * norm(config_of(estimator=Scaled())), rtol=1e-5)

    def norms(factor):
        still = config_of(num_updates=2, optimizer=pgjax.SGD(0.0), estimator=Summed((factor,)))
        return pgjax.train(KEY, still)[1].gradient_norm

    rising = norms(Factor(line(1.0, 3.0)))
    np.testing.assert_allclose(rising, norms(Factor(1.0)) * np.array([1.0, 3.0]), rtol=1e-5)


@pytest.mark.slow
def test_a_number_of_a_component_inside_is_swept_in_one_program():
    config, factors = config_of(estimator=Scaled()), [1.0, 3.0]
    swept = pgjax.sweep(KEY, config, {"estimator.inner.factor": factors}, num_seeds=1)
    assert swept.num_programs == 1
    once, thrice = swept.metrics.gradient_norm.ravel()
    np.testing.assert_allclose(thrice, 3.0 * once, rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"parts": (Factor(), Factor(-1.0))}, ValueError, r"parts\[1\]\.factor must be .* -1\.0$"),
        ({"parts": (Factor(), 3)}, TypeError, r"parts\[1\] must be .*from Factor, got 3$"),
        ({"parts": [Factor()]}, TypeError, r"parts must be a tuple, got \[Factor"),
        ({"parts": None}, TypeError, r"parts must be a tuple, got None$"),
        ({"last": pgjax.GAE()}, TypeError, r"last must be .*from Factor, got GAE\("),
        ({"last": Factor(line(1.0, -1.0))}, ValueError, r"last\.factor .*, at update 1 of its sch"),
    ],
)
def test_components_in_a_tuple_are_checked(changes, kind, message):
    with pytest.raises(kind, match=rf"^estimator\.{message}"):
        checked(config_of(num_updates=2, estimator=Summed(**changes)))


def with_field(annotation, default):
    """A component with one field, `x`."""
    annotated = {"__annotations__": {"x": annotation}, "x": default}
    return pgjax.component(type("Mine", (pgjax.Component,), annotated))


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (float, 0.5),
        (float | None, None),
        (typing.Optional[float], 2.0),  # noqa: UP045
        (float | int, 3),
        (float | jax.Array, 0.5),
    ],
)
def test_an_annotation_that_allows_numbers_alone_makes_a_leaf(annotation, value):
    mine = with_field(annotation, value)()
    mine.check("a")
    assert jax.tree.leaves(mine) == [value] * (value is not None)


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (tuple[float, int], (1.0, 2)),
        (tuple[int, ...] | None, None),
        (Mapping[str, float], pgjax.option(FrozenDict(one=1.0))),
        (Callable[[], int] | None, len),
        (type[float], np.float32),
        (float | str, "auto"),
        (float | str, 0.5),
        (float | tuple[float, ...], (0.5,)),
        (int | str, "auto"),
        (bool | None, None),
        (Literal["sum", 3], "sum"),
        (Any, math.inf),
    ],
)
def test_an_annotation_with_a_number_among_other_things_is_part_of_the_program(annotation, value):
    mine = with_field(annotation, value)()
    mine.check("a")
    assert jax.tree.leaves(mine) == []
    assert hash(jax.tree.structure(mine)) == hash(jax.tree.structure(mine.replace()))


@pytest.mark.parametrize(
    ("annotation", "default", "value", "kind", "message"),
    [
        (int, pgjax.option(3), 2**31, ValueError, "must be at most 2147483647, got 2147483648"),
        (int | None, pgjax.option(None, high=5), 9, ValueError, "must be at most 5, got 9"),
        (int, pgjax.option(1, choices=(1, 2)), 3, ValueError, "unknown a.x 3; known: 1, 2"),
        (bool | None, None, 1, TypeError, "a.x must be True or False, got 1"),
        (float | str, pgjax.option("auto", high=1.0), 2.0, ValueError, "at most 1.0, got 2.0"),
        (tuple[float, ...], (), (1.0, "2"), TypeError, r"a.x\[1\] must be a number, got '2'"),
        (tuple[float, ...], pgjax.option((), low=0.0), (1.0, -2.0), ValueError, r"x\[1\].* -2.0"),
        (tuple[float, int], (1.0, 1), (1.0,), ValueError, r"must be a tuple of 2, got \(1.0,\)"),
        (tuple[int, ...], (), 3, TypeError, "a.x must be a tuple, got 3"),
        (tuple, (), ((1, [2]),), TypeError, r"a.x\[0\]\[1\] is part .*a list is not"),
        (jax.Array, None, jnp.ones(2), TypeError, "an array is not; use a tuple"),
        (str, "a", {"a"}, TypeError, "a set is not; use a frozenset"),
    ],
)
def test_a_value_that_an_annotation_does_not_allow(annotation, default, value, kind, message):
    with pytest.raises(kind, match=message):
        with_field(annotation, default)(value).check("a")


def test_a_float_has_a_range_and_no_choices():
    with pytest.raises(TypeError, match=r"^Mine.x is a float, .*low= and high=, but no choices"):
        with_field(float, pgjax.option(1.0, choices=(1.0, 2.0)))
    with_field(str, pgjax.option("a", choices=("a", "b")))("b").check("a")


def test_an_array_that_a_schedule_decides_by_is_refused_by_name():
    def steps(values):
        return optax.constant_schedule(values[0] if values[0] > 1 else values[1])

    def rate(values):
        return config_of(optimizer=pgjax.Adam(pgjax.Schedule(steps, values=values)))

    checked(rate((1.0, 2.0)))
    with pytest.raises(TypeError, match=r"^steps: values is part .*an array is not; use a tuple"):
        checked(rate(np.array([1.0, 2.0])))


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


class Weighted(pgjax.Estimator):
    factor: float = 1.0

    def weights(self, trajectories):
        return self.factor * trajectories.reward


@dataclasses.dataclass(frozen=True)
class Plain(Weighted):
    pass


class Doubled(pgjax.GAE):
    def weights(self, trajectories, values):
        return 2 * super().weights(trajectories, values)


class Louder(pgjax.ScoreFunction):
    factor: float = 2.0

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
        ("estimator", Weighted()),
        ("estimator", Plain()),
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


@pytest.mark.parametrize(("field", "cls"), [("estimator", Weighted), ("objective", Louder)])
def test_a_forgotten_decorator_is_named_where_a_field_is_given(field, cls):
    sentence = f"class {cls.__name__} lacks the decorator @pgjax.component, which"
    with pytest.raises(TypeError, match=f"^{sentence}"):
        cls(factor=3.0)
    with pytest.raises(ValueError, match=rf"{field}\.factor.*: {sentence}"):
        config_of(**{field: cls()}).replace(**{f"{field}.factor": 3.0})


def test_a_component_inside_of_another_lacks_its_decorator():
    class Half(Factor):
        pass

    with pytest.raises(TypeError, match=r"^estimator\.inner: class Half lacks the decorator"):
        checked(config_of(estimator=Scaled(Half())))


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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ascent.target_kl": 0.1}, r"fields; max_kl is a field of Passes, TrustRegion$"),
        ({"ascent": pgjax.Passes(), "ascent.damping": 1}, "; damping is a field of TrustRegion$"),
        ({"objective.epsilon": 0.1}, "of ScoreFunction; .*; epsilon is a field of ClippedRatio$"),
        (
            {"critic": pgjax.SharedCritic(), "critic.learning_rate": 1e-3},
            "'optimizer.learning_rate'.*; learning_rate is a field of Critic, TwoHotCritic$",
        ),
        ({"objective": pgjax.ClippedRatio(), "objective.epsilo": 1}, "objective.epsilon, [^;]*$"),
        ({"estimator.n": 1}, "known: estimator.discount, [^;]*$"),
    ],
)
def test_a_field_of_another_component_of_the_family_is_said_to_be_its(changes, message):
    with pytest.raises(ValueError, match=message):
        config_of().replace(**changes)


@pgjax.component
class Five(Undecorated):
    min_trajectories = 5


def test_too_few_trajectories_for_an_estimator_of_ones_own():
    with pytest.raises(ValueError, match=r"at least 5 for estimator Five, got 4$"):
        pgjax.init(KEY, config_of(estimator=Five()))
    with pytest.raises(ValueError, match=r"RewardToGo, got 1; estimator\.baseline='none' works"):
        pgjax.init(KEY, config_of(sampler=pgjax.Episodes(1)))
