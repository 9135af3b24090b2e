"""The names of a config's flags, read from the package's source, so that a wrong one needs no JAX.

`flags` makes the parser from the components themselves, and importing those takes JAX's seconds; a
typing error is answered before that. `tests/test_cli.py` holds both to the same names.
"""

import ast
from collections.abc import Iterator, Sequence

from pgjax.cli import parsers, startup
from pgjax.core.exports import PACKAGE, families
from pgjax.core.names import unknown

_ENV = ("--env", "--env-id", "--env-name")
_ENV_PARAMS = "--env-params."
_OWN = ("--algorithm", "--total-steps")  # of `flags`, that are no paths


def check(command: str, arguments: Sequence[str], options: list[str]) -> None:
    """Raises ValueError if an argument is a flag that the command does not have.

    Args:
      command: for the message.
      arguments: of the command.
      options: all flags that it has.
    """
    for argument in arguments:
        flag = argument.partition("=")[0]
        if flag == "--":
            return
        if flag.startswith("--") and flag not in options and not flag.startswith(_ENV_PARAMS):
            raise ValueError(_unknown(command, flag, options))


def _unknown(command: str, flag: str, options: list[str]) -> str:
    what = f"option {flag!r}"
    if flag in _ENV and command in parsers.CONFIGURED:
        return f"unknown {what}; write the environment without it: pgjax {command} CartPole-v1"
    if flag == "--seeds" and "--num-seeds" in options:
        return f"unknown {what}; write --num-seeds N, how many, and --seed S to draw them from"
    if flag in ("--seeds", "--num-seeds") and "--seed" in options:
        return f"unknown {what}; write --seed N, one number; `pgjax sweep` has --num-seeds N"
    others = (name for name in startup.COMMANDS if flag in _flags(name))
    other = next(others, "")
    has = f", which `pgjax {other}` has" if other else ""
    return unknown(what + has, flag, options, f"`pgjax {command} --help`")


def _flags(command: str) -> list[str]:
    return startup.flags_of(parsers.of_command(command))


def config_flags() -> list[str]:
    """Every flag that sets a part of a config, `--no-` forms included; none without the source."""
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


def _assigned(tree: ast.Module, name: str) -> ast.expr:
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
    found = {}
    for file in PACKAGE.rglob("*.py"):
        text = file.read_text()
        if any(f"class {name}" in text for name in names):
            body = ast.parse(text).body
            found |= {node.name: node for node in body if isinstance(node, ast.ClassDef)}
    return found


def _fields(name: str, classes: dict[str, ast.ClassDef]) -> Iterator[tuple[str, bool]]:
    """Each field that a flag can set, those of bases first, and whether it is true or false."""
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
