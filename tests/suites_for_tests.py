"""A suite that needs no other project."""

from typing import Literal

import jax.numpy as jnp
import pytest

from pgjax.environments import spaces
from pgjax.environments.suites import suite, table
from pgjax.environments.suites.adapted import Adapted


class Levers(suite.Suite):
    """Pays the number of the lever, as the option says; a fake."""

    name, extra = "levers", "levers"

    def names(self):
        return ["two", "three", "offline", "broken"]

    def make(
        self,
        name: str,
        limit: int = 5,
        pay: float = 1.0,
        sign: Literal["plus", "minus"] = "plus",
        blank: bool = False,
        note: str | None = None,
    ):
        if name == "offline":
            raise ConnectionError("no route to host")
        if name == "broken":
            raise KeyError("lever")
        scale = -pay if sign == "minus" else pay

        def step(key, state, action):
            return jnp.zeros(1), state, scale * action, jnp.bool_(False)

        return Adapted(
            f"levers/{name} {note}",
            lambda key: (jnp.zeros(1), jnp.zeros(())),
            step,
            spaces.Box(0.0, 1.0, (1,)),
            spaces.Discrete({"two": 2, "three": 3}[name]),
            limit,
        )


@pytest.fixture
def levers(monkeypatch):
    """Lets ids begin with `levers/`, and with `absent/`, whose project is not installed."""
    monkeypatch.setitem(table.SUITES, "levers", f"{__name__}:Levers")
    monkeypatch.setitem(table.SUITES, "absent", f"{__name__}:Absent")
    yield
    table.make.cache_clear()


class Absent(suite.Suite):
    """A suite whose project is not installed."""

    name, extra = "absent", "absent"

    def names(self):
        return suite.imported("a_project_that_is_absent", self.extra).names

    def make(self, name: str, limit: int = 5):
        return suite.imported("a_project_that_is_absent", self.extra).make(name, limit)
