"""The suites, and ids such as `brax/ant?backend=spring&limit=500`.

The text is all that is known of an environment: config.json, run folders and sweeps keep it. A
suite's module is imported when it is used, and the other project when an environment is made or
listed.
"""

import functools
import importlib
import inspect
import re
from typing import Any, NamedTuple

from pgjax.core.names import shown, unknown
from pgjax.environments.suites import options
from pgjax.environments.suites.suite import Suite

# Where each suite's class is, or the class itself of one that somebody else has registered.
SUITES: dict[str, str | type[Suite]] = {
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
      ValueError: a "?" without options, an option that is not NAME=VALUE, or stands twice.
    """
    suite, _, rest = env_id.partition("/")
    name, mark, texts = rest.partition("?")
    if mark and not texts:
        raise ValueError(f"{env_id!r} has no option after its '?': write {suite}/{name}")
    return SuiteId(suite, name, options.split(texts, env_id) if mark else {})


def suite(name: str) -> Suite:
    """The suite of a name.

    Raises:
      ValueError: an unknown one (the message names the nearest).
    """
    if name not in SUITES:
        raise ValueError(unknown(f"suite {name!r}", name, ("gymnax", *SUITES)))
    home = SUITES[name]
    if not isinstance(home, str):
        return home()
    module, _, kind = home.partition(":")
    return getattr(importlib.import_module(module), kind)()


def register_suite(kind: type[Suite]) -> type[Suite]:
    """Lets ids begin with a suite's name and a slash; a decorator of its class.

    A module that calls it is imported beforehand, on the command line by `--import MODULE`: a run
    folder keeps the id alone.

    Args:
      kind: a class that derives from `Suite`; `extra` is "" where no extra of pgjax-rl installs
        its project. The same class may be registered again, from a notebook for instance.

    Returns:
      The class.

    Raises:
      TypeError: no class that derives from `Suite`, or one without a method or a name.
      ValueError: a name that cannot be in an id, or that another suite has.
    """
    if not (isinstance(kind, type) and issubclass(kind, Suite)):
        raise TypeError(
            f"register_suite takes a class that derives from pgjax.Suite, got {shown(kind)}"
        )
    name = vars(kind).get("name")
    if not isinstance(name, str) or inspect.isabstract(kind):
        raise TypeError(f"{kind.__name__} needs a name, and the methods names and make")
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
        raise ValueError(f"the name of a suite is letters, digits, _, . and -, got {shown(name)}")
    if name == "gymnax" or (name in SUITES and not _same(SUITES[name], kind)):
        raise ValueError(f"there is another suite {name!r}: give {kind.__name__} another name")
    SUITES[name] = kind
    make.cache_clear()
    return kind


def _same(home: str | type[Suite], kind: type[Suite]) -> bool:
    """Whether a class is that of a suite, perhaps defined anew."""
    if isinstance(home, str):
        return False
    return (home.__module__, home.__qualname__) == (kind.__module__, kind.__qualname__)


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
