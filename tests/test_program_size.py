"""No algorithm's program grows unnoticed: its traced equations stay within a budget."""

import importlib
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

ROOT = Path(__file__).resolve().parents[1]
BUDGET = json.loads((ROOT / "benchmarks/results/program_size.json").read_text())
# Another release of JAX may trace the same code to a few equations more.
_TOLERANCE = 1.1


@pytest.fixture
def compiling(monkeypatch):
    """The module `benchmarks/compile.py`."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("compile")


def test_equations_in_loops_and_inner_functions_count(compiling):
    inner = jax.jit(lambda x: x * 2.0 + 1.0)

    def branches(x):
        return jax.lax.cond(x > 0.0, inner, lambda x: -x, x)  # > and its cast to int32; 2; 1

    def looped(x):
        return jax.lax.scan(lambda x, _: (inner(inner(x)), None), branches(x), length=3)[0]

    assert compiling.num_equations(jax.make_jaxpr(looped)(jnp.ones(())).jaxpr) == 5 + 4


def test_the_budget_is_of_all_programs(compiling):
    assert set(BUDGET) == set(compiling.PROGRAMS)


@pytest.mark.parametrize("name", BUDGET)
def test_programs_stay_within_their_budgets(name, compiling):
    number = compiling.num_equations(compiling.traced(compiling.PROGRAMS[name]()).jaxpr.jaxpr)
    assert number <= _TOLERANCE * BUDGET[name], (
        f"{name} has {number} equations, its budget is {BUDGET[name]}: trace less, or, where the "
        "new ones are needed, write a new budget by `python benchmarks/compile.py --write-budget`"
    )
