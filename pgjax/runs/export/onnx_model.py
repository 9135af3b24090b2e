"""A policy as a model of ONNX: policy.onnx, and initial_memory.npz beside it."""

import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from pgjax.core import distribution
from pgjax.core.types import PyTree
from pgjax.runs.export import traced
from pgjax.runs.export.onnx_graph import Graph, Node, Writer
from pgjax.runs.export.onnx_operations import OPSET
from pgjax.runs.export.traced import Exported, Inputs

MODEL, MEMORY = "policy.onnx", "initial_memory.npz"
IR_VERSION = 8  # of the year of the operators' version, so that older programs read it, too


def write(exported: Exported, folder: Path, title: str) -> None:
    """Writes the model, for any number of observations.

    Raises:
      ValueError: an operation that ONNX has not; the message has its name.
      MissingExtra: no onnx or onnxruntime.
    """
    model = model_of(*traced.weights(exported), exported.batch(), title)
    (folder / MODEL).write_bytes(model.SerializeToString())
    traced.save_memory(exported, folder / MEMORY)


def model_of(
    names: list[str], values: list[Any], call: Callable, inputs: Inputs, title: str
) -> Any:
    """The model of a function of weights and of one observation's inputs.

    Args:
      names: of the weights.
      values: the weights.
      call: (weights, inputs) -> (action, memory).
      inputs: shapes and dtypes for n observations.
      title: of the model.
    """
    onnx, _ = _packages()
    function = jax.vmap(call, in_axes=(None, 0))
    program, shapes = jax.make_jaxpr(function, return_shape=True)(values, inputs)
    places = _places(inputs)
    results = _results(*shapes)
    arguments, targets = ([name for name, _ in side] for side in (places, results))
    writer = Writer(names, values, arguments, targets)
    texts = writer.write(program.jaxpr, program.consts, [*writer.names, *arguments])
    writer.assign(targets, texts)
    graph = Graph(places, results, writer.used(targets))
    model = _model(onnx, graph, writer.weights, title)
    onnx.checker.check_model(model, full_check=True)
    return model


def load(folder: Path) -> Callable:
    """The model for one observation, its memory and noise, () for modes: a list of its results.

    Raises:
      ValueError: ONNX Runtime has an operator not for the policy's dtype.
    """
    _, runtime = _packages()
    try:
        session = runtime.InferenceSession(folder / MODEL, providers=["CPUExecutionProvider"])
    except runtime.capi.onnxruntime_pybind11_state.NotImplemented as error:
        raise ValueError(f"ONNX Runtime cannot run the policy: {error}") from error
    places = [place.name for place in session.get_inputs()]

    def act(obs: PyTree, memory: tuple, noise: tuple) -> list:
        leaves = jax.tree.leaves((obs, memory, noise))
        rows = {name: np.asarray(x)[None] for name, x in zip(places, leaves, strict=True)}
        return [x[0] for x in session.run(None, rows)]

    return act


def use(exported: Exported) -> str:
    """An example, for the folder of the model."""
    inputs = exported.example()
    results = _results(*jax.eval_shape(exported, inputs))
    pairs = _named("obs", inputs.obs) + _named("noise", inputs.noise)
    given = "".join(f'"{name}": {name}, ' for name, _ in pairs)
    return (
        "import numpy as np\nimport onnxruntime\n\n"
        f'session = onnxruntime.InferenceSession("{MODEL}")\n'
        "names = [output.name for output in session.get_outputs()]\n"
        f'with np.load("{MEMORY}") as file:\n'
        "    start = dict(file)\n\n"
        "n = 1  # observations at once, each array [n, …]\n"
        "memory = {name: np.stack([x] * n) for name, x in start.items()}  # at an episode's start\n"
        f"inputs = {{{given}**memory}}\n"
        "results = dict(zip(names, session.run(names, inputs)))\n"
        f"# {', '.join(name for name, _ in results)}\n"
        'memory = {name: results[f"next_{name}"] for name in memory}\n'
    )


def _places(inputs: Inputs) -> list[tuple[str, Any]]:
    """The inputs' names and kinds, in the order of `jax.tree.leaves`."""
    return [pair for part, tree in inputs._asdict().items() for pair in _named(part, tree)]


def _results(action: PyTree, memory: tuple) -> list[tuple[str, Any]]:
    """The results' names and kinds."""
    return _named("action", action) + _named("next_memory", memory)


def _named(part: str, tree: PyTree) -> list[tuple[str, Any]]:
    """Each array of a tree by its path: obs['place'] is "obs_place"."""
    paths = jax.tree_util.tree_leaves_with_path(tree)
    words = [re.findall(r"\w+", jax.tree_util.keystr(path)) for path, _ in paths]
    return [("_".join([part, *w]), leaf) for w, (_, leaf) in zip(words, paths, strict=True)]


def _model(onnx: Any, graph: Graph, weights: dict[str, Any], title: str) -> Any:
    used = {name for node in graph.nodes for name in node.names}
    arrays = [
        onnx.helper.make_tensor(name, _dtype(onnx, x.dtype), x.shape, x.tobytes(), raw=True)
        for name, x in weights.items()
        if name in used
    ]
    return onnx.helper.make_model(
        _graph(onnx, graph, "policy", arrays),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="pgjax",
        producer_version=distribution.versions()["pgjax"],
        doc_string=title,
    )


def _graph(onnx: Any, graph: Graph, name: str, arrays: list[Any]) -> Any:
    def kinds(places: list[tuple[str, Any]]) -> list[Any]:
        return [
            onnx.helper.make_tensor_value_info(
                name,
                _dtype(onnx, aval.dtype),
                [size if isinstance(size, int) else str(size) for size in aval.shape],
            )
            for name, aval in places
        ]

    nodes = [_node(onnx, node) for node in graph.nodes]
    sides = kinds(graph.inputs), kinds(graph.outputs)
    return onnx.helper.make_graph(nodes, name, *sides, initializer=arrays)


def _node(onnx: Any, node: Node) -> Any:
    def attribute(value: Any) -> Any:
        if isinstance(value, Graph):
            return _graph(onnx, value, f"body_of_{node.targets[0]}", [])
        if isinstance(value, np.dtype):
            return _dtype(onnx, value)
        return value

    attributes = {name: attribute(value) for name, value in node.attributes.items()}
    # A name, since ONNX Runtime 1.20 gives fused operators without names one name.
    name = node.targets[0]
    return onnx.helper.make_node(node.kind, node.inputs, node.targets, name, **attributes)


def _dtype(onnx: Any, dtype: Any) -> int:
    """ONNX's number of a dtype.

    Raises:
      ValueError: a dtype of JAX that is not NumPy's.
    """
    dtype = np.dtype(dtype)
    if dtype.kind not in "biuf":
        raise ValueError(
            f"the policy computes in {dtype.name}, for which ONNX has few operators: give its "
            "network float32"
        )
    return int(onnx.helper.np_dtype_to_tensor_dtype(dtype))


def _packages() -> tuple[Any, Any]:
    try:
        return importlib.import_module("onnx"), importlib.import_module("onnxruntime")
    except ImportError as error:
        message = distribution.missing("Exports of ONNX", "onnx", error)
        raise distribution.MissingExtra(message) from error
