"""A policy as a module of NumPy alone: policy.py, and weights.npz beside it."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from pgjax.core.types import PyTree
from pgjax.runs.export import traced
from pgjax.runs.export.numpy_operations import dtype
from pgjax.runs.export.numpy_writer import Line, Writer, helpers
from pgjax.runs.export.traced import Exported, Inputs

MODULE, WEIGHTS = "policy.py", "weights.npz"


def write(exported: Exported, folder: Path, title: str) -> None:
    """Writes the module and its weights.

    Raises:
      ValueError: an operation that NumPy has not; the message has its name.
    """
    names, values, call = traced.weights(exported)
    inputs = exported.example()
    program = jax.make_jaxpr(call)(values, inputs)
    writer = Writer(names, values)
    leaves, arguments = _inputs(inputs)
    results = writer.write(program.jaxpr, program.consts, [*writer.names, *arguments])
    structure = jax.tree.structure(jax.eval_shape(call, values, inputs))
    action, memory = jax.tree.unflatten(structure, results)
    lines = writer.used(results)
    text = "\n".join([*(line.text for line in lines), *results])
    used = [name for name in writer.weights if name in set(Line([], text).names)]
    initial = jax.tree.leaves(exported.initial())
    start = {f"memory_{i}": np.asarray(x) for i, x in enumerate(initial)}
    parts = (_literal(action), _literal(memory), [*leaves, *(line.text for line in lines)])
    source = _source(title, inputs, exported.noise_kinds(), used, list(start), parts)
    arrays: dict[str, Any] = {**{name: writer.weights[name] for name in used}, **start}
    np.savez(folder / WEIGHTS, **arrays)
    (folder / MODULE).write_text(source)


def _inputs(inputs: Inputs) -> tuple[list[str], list[str]]:
    """The lines that read the inputs, and the names that they give them."""
    lines, names = [], []
    for path, leaf in jax.tree_util.tree_leaves_with_path(inputs):
        place = jax.tree_util.keystr(path).lstrip(".")
        names.append(f"input{len(names) + 1}")
        kind = f"{tuple(leaf.shape)}, {dtype(leaf)}"
        lines.append(f"{names[-1]} = given({place!r}, {place}, {kind})")
    return lines, names


def _literal(tree: PyTree) -> str:
    """A tree of texts as Python writes it."""
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{name!r}: {_literal(child)}" for name, child in tree.items()) + "}"
    if isinstance(tree, tuple):
        return f"({', '.join(map(_literal, tree))}{',' * (len(tree) == 1)})"
    return tree


def _source(
    title: str,
    inputs: Inputs,
    kinds: tuple[str, ...],
    used: list[str],
    start: list[str],
    parts: tuple[str, str, list[str]],
) -> str:
    """The text of the module."""
    action, memory, lines = parts
    loaded = tuple(f'_numbers["{name}"]' for name in start)
    arguments = "obs, memory" + (", noise" if kinds else "")
    body = "\n".join([*lines, f"return {action}, {memory}"]).replace("\n", "\n    ")
    sections = [
        f'"""{title}"""',
        "import math\nfrom pathlib import Path\n\nimport numpy as np\n"
        "from numpy.lib.stride_tricks import sliding_window_view\n\n"
        f'with np.load(Path(__file__).with_name("{WEIGHTS}")) as _file:\n'
        "    _numbers = dict(_file)\n" + "\n".join(f'{name} = _numbers["{name}"]' for name in used),
        "def initial_memory():\n"
        '    """The memory at an episode\'s start: a tuple of arrays."""\n'
        f"    return {_literal(loaded)}",
        *([_draw(inputs, kinds)] if kinds else []),
        f'@np.errstate(all="ignore")\ndef act({arguments}):\n'
        '    """The action for one observation, and the next memory."""\n'
        f"    {body}",
    ]
    sections.insert(2, helpers("\n".join(sections)))
    text = "\n\n\n".join(section.strip("\n") for section in sections if section) + "\n"
    if "sliding_window_view(" not in text:
        text = text.replace("from numpy.lib.stride_tricks import sliding_window_view\n", "")
    return text if "math." in text else text.replace("import math\n", "", 1)


def _draw(inputs: Inputs, kinds: tuple[str, ...]) -> str:
    """The function that draws the noise."""
    draws: list[Any] = [
        f"np.asarray(generator.{kind}({tuple(leaf.shape)}), {dtype(leaf)})"
        for kind, leaf in zip(kinds, inputs.noise, strict=True)
    ]
    return (
        "def draw(generator):\n"
        '    """The noise of one action, from a NumPy `Generator`."""\n'
        f"    return {_literal(tuple(draws))}"
    )


def load(folder: Path) -> Callable:
    """The module's `act`, of an observation, a memory and noise, () for modes."""
    spec = importlib.util.spec_from_file_location("policy", folder / MODULE)
    if spec is None or spec.loader is None:
        raise ImportError(f"{folder / MODULE} is no module")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda obs, memory, noise: module.act(obs, memory, *([noise] if noise else []))


def use(exported: Exported) -> str:
    """An example, for the folder of the module."""
    noise, generator = "", ""
    if not exported.deterministic:
        noise, generator = ", policy.draw(generator)", "generator = np.random.default_rng(0)\n"
    imports = "import numpy as np\n\nimport policy\n" if generator else "import policy\n"
    return (
        f"{imports}\n{generator}memory = policy.initial_memory()  # at each episode's start\n"
        f"action, memory = policy.act(obs, memory{noise})  # one observation\n"
    )
