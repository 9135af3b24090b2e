"""What to write for an environment of the user's own, from its module's source; runs none of it.

An environment is named `module:factory`; some write the module alone, or its file.
"""

import ast
import os
from pathlib import Path


def hint(name: str) -> str:
    """'; write module:factory, …' for a module alone, or for a file; nothing for other names.

    >>> hint("mine.py")
    '; write mine:MAKER, a function of mine.py that makes the environment'
    >>> hint("CartPole"), hint("mine:make")
    ('', '')
    """
    path, _, maker = name.partition(":")
    if "\0" in path or not path.strip("./"):
        return ""
    folder, stem = os.path.split(os.path.relpath(path.removesuffix(".py")))
    outside = folder.startswith("..") or os.path.isabs(folder)
    module = stem if outside else ".".join([*Path(folder).parts, stem])
    source = _source(module.replace(".", "/") if not outside else path.removesuffix(".py"))
    if (source is None and not path.endswith(".py")) or (maker and module == path):
        return ""
    makers = [maker] if maker else _makers(source)
    written = f"{module}:{makers[0] if len(makers) == 1 else 'MAKER'}"
    where = f" in the folder {folder}" if outside else ""
    return f"; write {written}{where}, a function of {source or path} that makes the environment"


def _source(path: str) -> Path | None:
    """The file of a module at a path without its ending."""
    files = (Path(f"{path}.py"), Path(path) / "__init__.py")
    return next(filter(Path.is_file, files), None)


def _makers(source: Path | None) -> list[str]:
    """The public functions that a file defines; none of one that cannot be read."""
    try:
        body = ast.parse(source.read_bytes()).body if source else []
    except (OSError, SyntaxError, ValueError):
        return []
    names = [node.name for node in body if isinstance(node, ast.FunctionDef)]
    return [name for name in names if not name.startswith("_")]
