"""Tables as CSV files."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pgjax.runs import checkpoints


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Makes or replaces a CSV file in one step."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    checkpoints.write_text(path, text.getvalue())
