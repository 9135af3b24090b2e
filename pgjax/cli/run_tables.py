"""The commands that read run folders and print tables: `list` and `compare`."""

from pathlib import Path
from typing import Any

from pgjax.cli import parsers, printing
from pgjax.core.components import check_int
from pgjax.runs import comparison, overview, schema

_WIDTH = 80
_HEADER = ("run", "environment", "algorithm", "steps", "return", "age")
_TEXT_COLUMNS = 3  # the others are numbers, written at the right
_LEAST = 10  # characters of a shortened text
_UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


def list_runs(arguments: list[str]) -> int:
    """Lists run folders and sweeps in a table, the last written first."""
    options = parsers.list_runs().parse(arguments)
    entries = overview.entries(options.folder)
    if options.json:
        printing.print_json({"runs": [_entry_as_json(entry) for entry in entries]})
        return 0
    if not entries:
        print(f"no run folder in {options.folder}")
        return 0
    rows = [_row(entry, options.folder) for entry in entries]
    for line in lines(schema.printable([_HEADER, *rows])):
        print(line)
    return 0


def _entry_as_json(entry: overview.Entry) -> dict[str, Any]:
    """An entry as JSON types."""
    return {
        "run": str(entry.path),
        "environment": entry.environment or None,
        "algorithm": entry.algorithm or None,
        "runs": entry.runs,
        "env_steps": entry.env_steps,
        "return": entry.final_return,
        "age_seconds": round(entry.age, 1),
        "problem": entry.problem or None,
    }


def _row(entry: overview.Entry, folder: Path) -> list[str]:
    """The cells of an entry; its path without the folder that all are in."""
    name = str(entry.path.relative_to(folder)) if entry.path != folder else str(folder)
    if entry.problem:
        return [name, "–", _why(entry), "", "", age(entry.age)]
    runs = f" × {entry.runs}" if entry.runs > 1 else ""
    steps, value = printing.short(entry.env_steps), f"{entry.final_return:.5g}"
    return [name, entry.environment, entry.algorithm + runs, steps, value, age(entry.age)]


def _why(entry: overview.Entry) -> str:
    return "no update yet" if "no update" in entry.problem else "cannot be read"


def age(seconds: float) -> str:
    """A duration in its largest unit.

    >>> age(5.0), age(7200.0)
    ('5 s', '2 h')
    """
    name, unit = next((pair for pair in _UNITS if seconds >= pair[1]), _UNITS[-1])
    return f"{seconds / unit:.0f} {name}"


def lines(rows: list[list[str]]) -> list[str]:
    """Columns of equal width, texts at the left and numbers at the right; the widest texts are
    shortened in their middle until a line has at most 80 characters."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    while sum(widths) + 2 * len(widths) > _WIDTH + 2:
        widest = max(range(_TEXT_COLUMNS), key=lambda index: widths[index])
        if widths[widest] <= _LEAST:
            break
        widths[widest] -= 1
    return [_line(row, widths) for row in rows]


def _line(row: list[str], widths: list[int]) -> str:
    cells = [
        _shortened(cell, width).ljust(width) if index < _TEXT_COLUMNS else cell.rjust(width)
        for index, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
    return "  ".join(cells).rstrip()


def _shortened(text: str, width: int) -> str:
    """The text with "…" in place of its middle, if it is longer than the width."""
    first = (width - 1) // 2
    return (
        text if len(text) <= width else f"{text[:first]}…{text[len(text) - (width - 1 - first) :]}"
    )


def compare(arguments: list[str]) -> int:
    """Compares the final returns of two runs or sweeps."""
    options = parsers.compare().parse(arguments)
    check_int("--updates", options.updates, 1)
    result = comparison.compare(options.a, options.b, options.updates)
    if options.json:
        printing.print_json(_comparison_as_json(result))
        return 0
    print(f"{result.a.environment}: mean return of the last {options.updates} updates")
    rows = {}
    for name, side in (("A", result.a), ("B", result.b)):
        best = f", best of {side.num_configs} configs" if side.num_configs > 1 else ""
        rows |= {name: f"{side.path}{best}", f"IQM, {name}": _side_text(side)}
    rows["A − B"] = f"{result.difference:.5g}{_interval(result.difference_interval)}"
    rows["P(A > B)"] = f"{result.probability:.5g}{_interval(result.probability_interval)}"
    printing.print_rows(rows)
    return 0


def _side_text(side: comparison.Side) -> str:
    """The IQM of a side, and what it is made of."""
    n = len(side.returns)
    seeds = f"{n} seed{'s' * (n > 1)} of {printing.short(side.env_steps)} steps"
    middle = float(comparison.interquartile_mean(side.returns))
    return f"{middle:.5g}  ({side.algorithm}, {seeds})"


def _interval(bounds: tuple[float, float] | None) -> str:
    if bounds is None:
        return "  (a single seed has no interval)"
    return f"  (95 % interval {bounds[0]:.5g} to {bounds[1]:.5g})"


def _comparison_as_json(result: comparison.Comparison) -> dict[str, Any]:
    """A comparison as JSON types."""
    sides = {
        name: {
            "run": str(side.path),
            "algorithm": side.algorithm,
            "config": side.config,
            "num_configs": side.num_configs,
            "returns": side.returns.tolist(),
            "iqm": float(comparison.interquartile_mean(side.returns)),
            "env_steps": side.env_steps,
        }
        for name, side in (("a", result.a), ("b", result.b))
    }
    intervals = {
        name: None if bounds is None else list(bounds)
        for name, bounds in (
            ("difference_interval", result.difference_interval),
            ("probability_interval", result.probability_interval),
        )
    }
    return {
        "environment": result.a.environment,
        **sides,
        "difference": result.difference,
        "probability": result.probability,
        **intervals,
    }
