"""The card of an exported policy: README.md beside it."""

import json
from typing import Any

import jax

from pgjax.core import distribution
from pgjax.core.types import Evaluation
from pgjax.environments import elements
from pgjax.runs import config_json, schema
from pgjax.runs.export.agreement import OBSERVATIONS
from pgjax.runs.export.traced import Exported
from pgjax.training.config import Config

_NOISE = {"random": "uniform in [0, 1)", "standard_normal": "standard normal"}


def text(
    exported: Exported,
    config: Config,
    updates: int,
    evaluation: Evaluation | None,
    difference: float,
) -> str:
    """The card as Markdown.

    Args:
      exported: the policy.
      config: the one that it was trained with.
      updates: that its training made.
      evaluation: of the policy, acting as it is exported; None: unknown.
      difference: the largest one between the export and the original.
    """
    environment = exported.deployed.environment
    rows = {
        "environment": environment.name,
        "observation space": repr(environment.observation_space),
        "action space": repr(environment.action_space),
        "actions": "the mode" if exported.deterministic else "samples, from noise that is an input",
        "observation": _kinds(exported.example().obs),
        "memory": _kinds(exported.example().memory),
        "noise": _noise(exported),
        "units": "the environment's own, of observations, actions and returns",
        "updates": str(updates),
        "return": _return(evaluation),
        "largest difference": f"{difference:.2g} from the original, on {OBSERVATIONS} observations",
        "versions": ", ".join(f"{name} {x}" for name, x in distribution.versions().items()),
    }
    table = "".join(f"| {name} | {_cell(value)} |\n" for name, value in rows.items())
    described = json.dumps(schema.printable(config_json.to_dict(config)), indent=2)
    return (
        f"# A policy of {environment.name}\n\nTrained and exported by pgjax.\n\n| | |\n|---|---|\n"
        f"{table}\n## Config\n\n```json\n{described}\n```\n"
    )


def use(code: str) -> str:
    """The section of a card with a block of Python that loads and calls the export."""
    return f"\n## Use\n\n```python\n{code}```\n"


def _kinds(tree: Any) -> str:
    """Dtypes and shapes of a tree's arrays, by their paths."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    kinds = [f"{jax.tree_util.keystr(path)} {elements.shape(leaf)}" for path, leaf in leaves]
    return ", ".join(kind.strip() for kind in kinds) or "none"


def _noise(exported: Exported) -> str:
    pairs = zip(exported.noise_kinds(), exported.example().noise, strict=True)
    return ", ".join(f"{elements.shape(leaf)} {_NOISE[kind]}" for kind, leaf in pairs) or "none"


def _return(evaluation: Evaluation | None) -> str:
    if evaluation is None:
        return "not evaluated"
    low, high = evaluation.interval.tolist()
    return (
        f"{float(evaluation.mean):.5g} (95 %: {low:.5g} to {high:.5g}), "
        f"mean of {len(evaluation.returns)} episodes"
    )


def _cell(value: str) -> str:
    return " ".join(value.split()).replace("|", "\\|")
