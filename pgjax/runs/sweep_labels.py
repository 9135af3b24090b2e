"""The values of a sweep's grid as text."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from pgjax.pictures.curves import differences
from pgjax.runs import config_json
from pgjax.training.config import Config


def value_labels(config: Config, grid: Mapping[str, Sequence[Any]]) -> dict[str, list[str]]:
    """The values of each path of the grid as text; those of one name by their differences."""
    labels = {}
    for path, values in grid.items():
        names = list(map(plain, values))
        labels[path] = list(names)
        for name in {name for name in names if names.count(name) > 1}:
            indices = [i for i, other in enumerate(names) if other == name]
            configs = [config.replace(**{path: values[i]}) for i in indices]
            texts = differences(list(map(config_json.to_dict, configs)))
            for i, text in zip(indices, texts, strict=True):
                labels[path][i] = text or name  # no difference: a value that is given twice
    return labels


def plain(value: Any) -> str:
    """A number or text, or the name of a component's type."""
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    if isinstance(value, (float, np.floating)) or (isinstance(value, jax.Array) and not value.ndim):
        return f"{float(value):g}"
    return str(value) if isinstance(value, (int, str, type(None))) else type(value).__name__
