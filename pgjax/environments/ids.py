"""What an id stands for: gymnax's, another suite's, or a name that the user has imported."""

from typing import Any

from pgjax.core.names import shown, unknown
from pgjax.environments import gymnax_objects, own_imports, own_modules, versions
from pgjax.environments.environment import Environment
from pgjax.environments.suites import table

# The users' own by their names `module:factory`, which were imported in this process.
IMPORTED: dict[str, Any] = {}


def canonical(env_id: str) -> str:
    """The id without gymnax's name in front: `gymnax/CartPole-v1` is `CartPole-v1`."""
    return env_id if env_id in gymnax_objects.registered() else env_id.removeprefix("gymnax/")


def is_own_name(name: str) -> bool:
    """Whether a name is `module:factory`, the user's own code, rather than an id."""
    return ":" in name and not table.is_suite_id(name)


def import_environment(name: str) -> str:
    """Imports an environment of the user's own and lets its name stand for it from here on.

    Nothing else imports what a config names: a folder that says `module:factory` runs no code.

    Args:
      name: `module:attribute`, as for `own_imports.made`.

    Returns:
      The name, for `Config(env=…)`.

    Raises:
      ValueError: no such module or attribute, or no environment.
    """
    if name not in IMPORTED:
        IMPORTED[name] = own_imports.made(name, resolve)
    return name


def make(env_id: str) -> Any:
    """The environment of an id, or of the name of an imported one; one object for each.

    Args:
      env_id: gymnax's (`CartPole-v1`, `gymnax/CartPole-v1`), another suite's
        (`brax/ant?backend=spring&limit=500`), or `module:factory`.

    Raises:
      ValueError: an unknown id (the message names the nearest), or one that cannot be made.
      ImportError: the suite is not installed; the message has the command that installs it.
    """
    env_id = canonical(env_id)
    if env_id in gymnax_objects.registered() and ":" not in env_id:
        return gymnax_objects.make(env_id)
    if table.is_suite_id(env_id):
        return table.make(env_id)
    if ":" not in env_id:
        raise ValueError(_no_id(env_id))
    if env_id not in IMPORTED and not own_imports.is_allowed(env_id):
        raise ValueError(
            f"environment {env_id!r} is somebody's own code, imported only if you name it: "
            f"--import {env_id.partition(':')[0]}, or --env {env_id}; in Python "
            f"pgjax.load(path, env={env_id!r})"
        )
    return IMPORTED[import_environment(env_id)]


def _no_id(env_id: str) -> str:
    """What to say of a text that is no id."""
    if hint := own_modules.hint(env_id):
        return f"environment {env_id!r} is no id{hint}"
    if env_id in table.SUITES:
        return f"{env_id!r} is a suite: write {env_id}/NAME; `pgjax envs {env_id}` lists the names"
    name, mark, _ = env_id.partition("?")
    if mark and name in gymnax_objects.registered():
        return f"{name} has no options: its parameters are in env_params, got {shown(env_id)}"
    suite, slash, _ = env_id.partition("/")
    if slash:
        message = unknown(f"suite {suite!r} of {env_id!r}", suite, ("gymnax", *table.SUITES))
        return f"{message}; one that a module of your own registers: --import MODULE"
    if env_id.lower() in table.SUITES:
        return unknown(f"suite {env_id!r}", env_id, ("gymnax", *table.SUITES))
    for suite in table.SUITES:
        if env_id.lower().startswith(suite):
            return f"environment {env_id!r} is none of gymnax's; of {suite} it is {suite}/{env_id}"
    known = (*gymnax_objects.registered(), *table.SUITES)
    message = unknown(f"environment {env_id!r}", env_id, known, "`pgjax envs`")
    return f"{message}; one that a module of your own registers: --import MODULE"


def version(env: str | Any) -> tuple:
    """What tells an environment from itself after a method of it was replaced, or an id's meaning.

    Compiled programs are kept by it: an environment object equals itself whatever changes in it.
    """
    if not isinstance(env, str):
        return versions.of_object(env)
    if table.is_suite_id(env):
        return (table.SUITES[env.partition("/")[0]],)
    env_id = canonical(env)
    meaning = IMPORTED.get(env_id, gymnax_objects.factory(env_id))
    return (versions.Identity(meaning), *versions.of_object(meaning))


def resolve(env: str | Any) -> Any:
    """The environment object that an id stands for, or the object itself.

    Raises:
      ValueError: as for `make`.
      TypeError: an object that is neither an `Environment` nor like gymnax's.
    """
    if isinstance(env, str):
        return make(env)
    if isinstance(env, Environment):
        return env
    names = versions.INTERFACE
    missing = [name for name in names if isinstance(env, type) or not hasattr(env, name)]
    if missing:
        raise TypeError(
            f"env must be an id or an environment object, got {shown(env)}, "
            f"which has no {', '.join(missing)}"
        )
    return env
