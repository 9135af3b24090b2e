"""Metrics as pandas DataFrames. pandas is imported when the first is made."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from typing import Any

import numpy as np

from pgjax.core import distribution

if typing.TYPE_CHECKING:
    import pandas


def frame(columns: Mapping[str, Any]) -> pandas.DataFrame:
    """A DataFrame with these columns.

    Raises:
      MissingExtra: pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        message = distribution.missing("DataFrames", "frames", error)
        raise distribution.MissingExtra(message) from None
    return pandas.DataFrame({name: np.asarray(column) for name, column in columns.items()})


def labelled(values: tuple, labels: list[str]) -> np.ndarray:
    """The values where all are numbers, texts or None; else their labels."""
    if all(isinstance(value, (bool, int, float, np.number)) for value in values):
        return np.array(values)
    plain = all(isinstance(value, (str, type(None))) for value in values)
    return np.array(values if plain else labels, object)
