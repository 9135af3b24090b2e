"""A policy as StableHLO with its weights: policy.stablehlo, and initial_memory.npz beside it."""

import importlib
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from pgjax.core import distribution
from pgjax.core.types import PyTree
from pgjax.runs.export.traced import Exported, Inputs, save_memory

PROGRAM, MEMORY = "policy.stablehlo", "initial_memory.npz"
PLATFORMS = ("cpu", "cuda", "tpu")


def write(exported: Exported, folder: Path, title: str) -> None:
    """Writes the program, for any number of observations and each of the platforms.

    Raises:
      MissingExtra: no flatbuffers, by which JAX makes bytes of programs.
    """
    del title
    _check_extra()
    inputs = exported.batch()
    shapes = inputs[:2] if exported.deterministic else inputs
    program = export.export(jax.jit(_function(exported)), platforms=PLATFORMS)(*shapes)
    (folder / PROGRAM).write_bytes(program.serialize())
    save_memory(exported, folder / MEMORY)


def load(folder: Path) -> Callable:
    """The program for one observation, its memory and noise, () for modes."""
    program = export.deserialize(bytearray((folder / PROGRAM).read_bytes()))
    call = jax.jit(program.call)

    def act(obs: PyTree, memory: tuple, noise: tuple) -> PyTree:
        arguments = (obs, memory, noise) if noise else (obs, memory)
        rows = jax.tree.map(lambda x: jnp.asarray(x)[None], arguments)
        return jax.tree.map(lambda x: np.asarray(x[0]), call(*rows))

    return act


def use(exported: Exported) -> str:
    """An example, for the folder of the program."""
    noise = "" if exported.deterministic else ", noise"
    return (
        "import numpy as np\nfrom jax import export\n\n"
        f'with open("{PROGRAM}", "rb") as file:\n'
        "    program = export.deserialize(bytearray(file.read()))\n"
        f'with np.load("{MEMORY}") as file:\n'
        '    start = [file[f"memory_{i}"] for i in range(len(file.files))]\n\n'
        "n = 1  # observations at once, each array [n, …]\n"
        "memory = tuple(np.stack([x] * n) for x in start)  # at each episode's start\n"
        f"action, memory = program.call(obs, memory{noise})\n"
    )


def _function(exported: Exported) -> Callable:
    if exported.deterministic:
        return lambda obs, memory: jax.vmap(exported)(Inputs(obs, memory, ()))
    return lambda obs, memory, noise: jax.vmap(exported)(Inputs(obs, memory, noise))


def _check_extra() -> None:
    try:
        importlib.import_module("flatbuffers")
    except ImportError as error:
        message = distribution.missing("Exports of StableHLO", "stablehlo", error)
        raise distribution.MissingExtra(message) from error
