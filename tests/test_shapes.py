"""Annotated shapes are checked in tests, and cost nothing in use."""

import subprocess
import sys

import jax.numpy as jnp
import jaxtyping
import pytest

from pgjax.critics.two_hot import two_hot
from pgjax.estimators.baselines import leave_one_out
from pgjax.estimators.returns import advantages
from pgjax.policies.distributions import Categorical, Normal

ONES = jnp.ones((3, 2))
NONE = jnp.zeros((3, 2), bool)


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        # These would broadcast, to numbers that look as good as any.
        (leave_one_out, (ONES, jnp.ones((3, 1), bool))),
        (advantages, (ONES, jnp.ones((4, 2)), NONE[:, :1], NONE, 1.0, 1.0)),
        (Categorical(jnp.zeros(3)).log_prob, (jnp.zeros(2, int),)),
        (two_hot, (jnp.zeros(5), 5)),
        # Neither the dtype nor the scalar is one.
        (leave_one_out, (ONES, ONES)),
        (advantages, (ONES, jnp.ones((4, 2)), NONE, NONE, jnp.ones(2), 1.0)),
    ],
)
def test_a_wrong_shape_is_refused(function, arguments):
    with pytest.raises(jaxtyping.TypeCheckError, match="parameters"):
        function(*arguments)


def test_a_result_of_another_shape_is_refused():
    one, three = jnp.zeros(1), jnp.zeros(3)
    with pytest.raises(jaxtyping.TypeCheckError, match="return value"):
        Normal(one, one, low=three, high=three).environment_action(one)


def test_in_use_nothing_is_checked():
    program = (
        "import sys, jax.numpy as jnp; from pgjax.estimators.baselines import mean;"
        "mean(jnp.ones((3, 2)), jnp.ones((3, 1), bool)); print('beartype' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout.strip(), done.returncode) == ("False", 0), done.stderr
