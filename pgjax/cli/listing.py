"""What `pgjax envs` prints: the environments of gymnax, the suites, their names; or one of them."""

import typing
from collections.abc import Iterator

from pgjax.cli import printing
from pgjax.core import distribution
from pgjax.core.components import parts
from pgjax.environments import interface
from pgjax.environments.interface import Environment, spaces
from pgjax.environments.suites import table
from pgjax.environments.suites.options import Option, kinds
from pgjax.policies import heads


def everything() -> Iterator[str]:
    """A line for each environment of gymnax, then a line for each suite."""
    yield f"{'environment':26s}{'observation':22s}{'actions':13s}{'limit':>5s}  policy head"
    for name in interface.ids():
        try:
            environment = interface.bind(name)
        except ValueError:
            yield f"{name:26s}cannot be made here: it loads data from the network"
            continue
        observation, limit = spaces.text(environment.observation_space), str(environment.limit)
        actions, head = _actions(environment)
        yield f"{name:26s}{observation:22s}{actions:13s}{limit:>5s}  {head}"
    yield ""
    yield f"{'suite':26s}`pgjax envs SUITE` lists its names"
    for name in table.SUITES:
        suite = table.suite(name)
        yield f"{name:26s}" + (
            "installed"
            if suite.installed()
            else "not installed" + (f": {distribution.install(suite.extra)}" if suite.extra else "")
        )


def suite_names(name: str) -> Iterator[str]:
    """The id of every environment of a suite; imports its project."""
    suite = table.suite(name)
    yield from (f"{name}/{environment}" for environment in suite.names())


def describe(env_id: str) -> None:
    """Prints the spaces, time limit, policy head, parameters and options of an environment.

    Raises:
      ValueError: an unknown id; the message names the nearest.
    """
    if interface.is_own_name(env_id):
        interface.import_environment(env_id)
    environment = interface.bind(env_id)
    actions, head = _actions(environment)
    rows = {
        "environment": env_id,
        "observation": spaces.text(environment.observation_space),
        "actions": actions,
        "time limit": f"{environment.limit} steps" if environment.limit else "none",
        "policy head": head,
    }
    printing.print_rows(rows)
    for name, value in parts(interface.default_params(env_id)).items():
        flag = f"--env-params.{name.replace('_', '-')}"
        print(f"  {flag:39s} {value}")
    if table.is_suite_id(env_id):
        for name, option in table.suite(table.parsed(env_id).suite).options().items():
            print(f"  ?{name + '=':38s} {_option(option)}")


def _option(option: Option) -> str:
    """A default, and the words that an option may be."""
    literals = [kind for kind in kinds(option.hint) if typing.get_origin(kind) is typing.Literal]
    words = ", ".join(word for kind in literals for word in typing.get_args(kind))
    return f"{option.default}" + (f" ({words})" if words else "")


def _actions(environment: Environment) -> tuple[str, str]:
    """The action space and its distribution, in short."""
    try:
        head = heads.of(environment)
    except TypeError:
        return spaces.text(environment.action_space), "none"
    return str(head), head.family
