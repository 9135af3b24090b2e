"""The names of a config's flags, read from the package's source without importing JAX.

`flags` makes the parser from the components themselves, whose import takes JAX's seconds; a
misspelt flag is refused before that. `tests/test_cli.py` checks that both have the same names.
"""

import ast
from collections.abc import Iterator, Sequence

from pgjax.cli import parsers, startup
from pgjax.core.exports import PACKAGE, families
from pgjax.core.names import unknown

_ENV = ("--env", "--env-id", "--env-name")
_ENV_PARAMS = "--env-params."
_OF_RUNS = ("resume", "evaluate", "render", "export")  # the commands that take a run's own config
_MAKING = ("--config", "--wrap")  # make a config, and are no part of it
_BEGINNING = ("--seed", "--name", "--directory")  # `resume` has what the run began with
_OWN = ("--algorithm", "--total-steps")  # the flags that are no paths of a config


def check(command: str, arguments: Sequence[str], options: list[str]) -> None:
    """Raises ValueError if an argument is a flag that the command does not have.

    Args:
      command: its name, for the message.
      arguments: the command's.
      options: all flags that it has.
    """
    for argument in arguments:
        flag = argument.partition("=")[0]
        if flag == "--":
            return
        if flag.startswith("--") and flag not in options and not flag.startswith(_ENV_PARAMS):
            raise ValueError(_unknown(command, flag, options))


def _unknown(command: str, flag: str, options: list[str]) -> str:
    """The message about an unknown flag, with the nearest right thing."""
    option = f"option {flag!r}"
    if flag in _ENV and command in parsers.CONFIGURED:
        return f"unknown {option}; write the environment without it: pgjax {command} CartPole-v1"
    if flag == "--seeds" and "--num-seeds" in options:
        return f"unknown {option}; write --num-seeds N, how many, and --seed S to draw them from"
    if flag in ("--seeds", "--num-seeds") and "--seed" in options:
        return f"unknown {option}; write --seed N, one number; `pgjax sweep` has --num-seeds N"
    beginning = _BEGINNING if command == "resume" else ()
    if command in _OF_RUNS and flag in (*_MAKING, *beginning, *config_flags()):
        return _kept(command, flag)
    owner = next((name for name in startup.COMMANDS if flag in _flags(name)), "")
    hint = f", which `pgjax {owner}` has" if owner else ""
    return unknown(option + hint, flag, options, f"`pgjax {command} --help`")


def _kept(command: str, flag: str) -> str:
    """The message about a flag that would make another run of the one that a command takes."""
    if command != "resume":
        kept = "takes the run as it is"
    elif flag == "--total-steps":
        return f"`pgjax resume` has no {flag}; --num-updates N is how many updates it makes in all"
    else:
        kept = "goes on with the run as it began, and only floats and --num-updates may change"
    another = f"`pgjax train ENV --from RUN {flag} …` begins another run with it"
    return f"`pgjax {command}` {kept}, so it has no {flag}; {another}"


def _flags(command: str) -> list[str]:
    return startup.flags_of(parsers.of_command(command))


def config_flags() -> list[str]:
    """Every flag that sets a part of a config, `--no-` forms included; empty without the source."""
    try:
        tree = ast.parse((PACKAGE / "runs" / "config_json.py").read_text())
    except OSError:
        return []
    known, plain = families(), _assigned(tree, "PLAIN")
    classes = _classes({name for names in known.values() for name in names})
    paths = {field: False for field, names in known.items() if len(names) > 1}
    for field, names in known.items():
        for name in names:
            paths |= {f"{field}.{inner}": flag for inner, flag in _fields(name, classes)}
    config = dict(_fields("Config", _classes({"Config"})))
    paths |= {name: config[name] for name in ast.literal_eval(plain)}
    flags = [*_OWN, *("--" + path.replace("_", "-") for path in paths)]
    return flags + ["--no-" + path.replace("_", "-") for path, flag in paths.items() if flag]


def changing_flags() -> list[str]:
    """The flags of `config_flags` that `resume` reads: those that choose no component."""
    choosing = [f"--{field}" for field in families()]
    return [flag for flag in config_flags() if flag not in (*_OWN, *choosing)]


def _assigned(tree: ast.Module, name: str) -> ast.expr:
    """The expression that a module assigns to a name."""
    for node in tree.body:
        if isinstance(node, ast.AnnAssign):
            targets = [node.target]
        elif isinstance(node, ast.Assign):
            targets = node.targets
        else:
            continue
        if node.value is not None and any(
            isinstance(target, ast.Name) and target.id == name for target in targets
        ):
            return node.value
    raise KeyError(name)


def _classes(names: set[str]) -> dict[str, ast.ClassDef]:
    """The definitions of classes and, in the same files, of their bases."""
    definitions = {}
    for file in PACKAGE.rglob("*.py"):
        text = file.read_text()
        if any(f"class {name}" in text for name in names):
            body = ast.parse(text).body
            definitions |= {node.name: node for node in body if isinstance(node, ast.ClassDef)}
    return definitions


def _fields(name: str, classes: dict[str, ast.ClassDef]) -> Iterator[tuple[str, bool]]:
    """The fields of a class that a flag can set, those of its bases first, and whether each is a
    bool."""
    if name not in classes:
        return
    for base in classes[name].bases:
        if isinstance(base, ast.Name):
            yield from _fields(base.id, classes)
    for node in classes[name].body:
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        hint = ast.unparse(node.annotation)
        if "Module" not in hint and "ClassVar" not in hint:
            yield node.target.id, hint == "bool"
