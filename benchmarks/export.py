"""The largest difference of each preset's exported policy from the original, for every format.

Each preset's network has its initial parameters plus normal numbers of standard deviation 0.1, and
observation statistics that are moved alike: training is not repeated. The difference is that of
`pgjax.export`, over the actions and memories of 1000 observations of the policy's own episodes.

    python benchmarks/export.py
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from common import markdown, parser, results_folder, significant, write

import pgjax
from pgjax.runs.export.exporting import FORMATS
from pgjax.training import presets

HEADER = ("preset", "action", *FORMATS)
ACTIONS = {"sample": False, "mode": True}


def moved(state: pgjax.TrainState) -> pgjax.TrainState:
    """The state with other numbers in the network and in the observations' statistics."""
    draw = np.random.default_rng(0)

    def number(path: tuple, x: jax.Array) -> jax.Array:
        if x.dtype.kind != "f":
            return x
        change = (0.1 * draw.normal(size=x.shape)).astype(x.dtype)
        is_positive = getattr(path[-1], "name", "") in ("variance", "number")
        return x * np.exp(change) if is_positive else x + change

    params, variables = (
        jax.tree_util.tree_map_with_path(number, tree) for tree in (state.params, state.variables)
    )
    return state.replace(params=params, variables=variables)


def points(names: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """The differences of each preset, action and format."""
    for env in names:
        config = pgjax.preset(env)
        state = moved(pgjax.init(jax.random.key(0), config))
        for action, is_mode in ACTIONS.items():
            differences = {}
            for form in FORMATS:
                with tempfile.TemporaryDirectory() as folder:
                    path = Path(folder) / "policy"
                    export = pgjax.export(state, config, path, form, deterministic=is_mode)
                differences[form] = significant(export.difference, 2)
            yield {"env": env, "action": action, "differences": differences}


def row(point: dict[str, Any]) -> tuple[str, ...]:
    """One line of the table."""
    differences = (f"{point['differences'][form]:.1e}" for form in FORMATS)
    return (point["env"], point["action"], *differences)


def main() -> None:
    """Exports, prints a table, writes export.json and .md."""
    flags = parser(__doc__.splitlines()[0]).parse_args()
    folder, names = results_folder(flags), presets.tuned()
    rows = []
    for point in points(names[:1] if flags.quick else names):
        rows.append(point)
        print(*row(point), flush=True)
        largest = max(x for row in rows for x in row["differences"].values())
        write(folder, "export", {"quick": flags.quick, "largest": largest, "points": rows})
    (folder / "export.md").write_text(markdown(HEADER, map(row, rows)))
    print(f"written to {folder}")


if __name__ == "__main__":
    main()
