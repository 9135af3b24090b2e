"""The suites, and ids such as `brax/ant?backend=spring&limit=500`.

The text is all that is known of an environment: config.json, run folders and sweeps keep it. A
suite's module is imported when it is used, and the other project when an environment is made or
listed.
"""

import functools
import importlib
from typing import Any, NamedTuple

from pgjax.core.names import unknown
from pgjax.environments.suites import options
from pgjax.environments.suites.suite import Suite

SUITES = {
    "brax": "pgjax.environments.suites.brax:Brax",
    "craftax": "pgjax.environments.suites.craftax:Craftax",
    "gymnasium": "pgjax.environments.suites.gymnasium:Gymnasium",
    "jumanji": "pgjax.environments.suites.jumanji:Jumanji",
    "navix": "pgjax.environments.suites.navix:Navix",
    "pgx": "pgjax.environments.suites.pgx:Pgx",
    "playground": "pgjax.environments.suites.playground:Playground",
    "xminigrid": "pgjax.environments.suites.xminigrid:XMiniGrid",
}


class SuiteId(NamedTuple):
    """The parts of an id; the options' values are texts."""

    suite: str
    name: str
    options: dict[str, str]


def is_suite_id(env_id: str) -> bool:
    """Whether an id begins with a suite's name and a slash.

    >>> is_suite_id("brax/ant"), is_suite_id("CartPole-v1"), is_suite_id("mine/maze.py")
    (True, False, False)
    """
    suite, slash, _ = env_id.partition("/")
    return bool(slash) and suite in SUITES


def parsed(env_id: str) -> SuiteId:
    """The parts of an id.

    >>> parsed("brax/ant?backend=spring&limit=500")
    SuiteId(suite='brax', name='ant', options={'backend': 'spring', 'limit': '500'})

    Raises:
      ValueError: an option that is not NAME=VALUE, or stands twice.
    """
    suite, _, rest = env_id.partition("/")
    name, _, texts = rest.partition("?")
    return SuiteId(suite, name, options.split(texts, env_id))


def suite(name: str) -> Suite:
    """The suite of a name.

    Raises:
      ValueError: an unknown one (the message names the nearest).
    """
    if name not in SUITES:
        raise ValueError(unknown(f"suite {name!r}", name, ("gymnax", *SUITES)))
    module, _, kind = SUITES[name].partition(":")
    return getattr(importlib.import_module(module), kind)()


@functools.cache
def make(env_id: str) -> Any:
    """The environment of an id; one object for each.

    Raises:
      ValueError: an unknown suite, name or option, a value that an option cannot have, or an
        environment that cannot be made here.
      ImportError: the project is not installed; the message has the command that installs it.
    """
    parts = parsed(env_id)
    return suite(parts.suite).environment_of_texts(parts.name, parts.options)
