"""Seconds until a training runs, and the size of its program: import, trace, lower, compile.

    python benchmarks/compile.py                 # every program, each in a process of its own
    python benchmarks/compile.py --write-budget  # keeps the equations that tests compare with

Equations are those of the traced program, in loops and inner functions too; lines are those of
StableHLO, which JAX gives to XLA, and of the HLO that XLA compiles to machine code.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from common import RESULTS, markdown, parser, results_folder, significant, write
from matplotlib.figure import Figure

import pgjax

PROGRAMS: dict[str, Callable[[], pgjax.Config]] = {
    "REINFORCE": lambda: pgjax.reinforce("CartPole-v1"),
    "A2C": lambda: pgjax.actor_critic("CartPole-v1"),
    "PPO": lambda: pgjax.ppo("CartPole-v1"),
    "PPO, recurrent": lambda: pgjax.ppo(
        "CartPole-v1", network=pgjax.Recurrent(pgjax.MLP((64,)), 64)
    ),
    "TRPO": lambda: pgjax.natural_policy_gradient("CartPole-v1"),
    "PPO, Pendulum-v1": lambda: pgjax.preset("Pendulum-v1"),
    "PPO, Breakout-MinAtar": lambda: pgjax.preset("Breakout-MinAtar"),
}
QUICK = {"linear REINFORCE": lambda: pgjax.reinforce("Catch-bsuite", network=pgjax.MLP(()))}
PHASES = ("import", "trace", "lower", "compile")
SIZES = ("equations", "stablehlo_lines", "hlo_lines", "fusions", "loops")
BUDGET = RESULTS / "program_size.json"
# `pgjax` imports its names at their first use.
IMPORT = """
import time
start = time.perf_counter()
import pgjax
pgjax.train
print(time.perf_counter() - start)
"""


def num_equations(jaxpr: Any) -> int:
    """The number of equations of a jaxpr and, in place of one that contains jaxprs, of those."""

    def number(equation):
        inner = [jaxpr for value in equation.params.values() for jaxpr in _jaxprs(value)]
        return sum(map(num_equations, inner)) if inner else 1

    return sum(map(number, jaxpr.eqns))


def _jaxprs(value: Any) -> list[Any]:
    """The jaxprs in a parameter of an equation, which may be a tuple of branches."""
    values = value if isinstance(value, (tuple, list)) else [value]
    jaxprs = [getattr(value, "jaxpr", value) for value in values]
    return [jaxpr for jaxpr in jaxprs if hasattr(jaxpr, "eqns")]


def traced(config: pgjax.Config) -> Any:
    """The traced program of a training."""
    return jax.jit(pgjax.train).trace(jax.random.key(0), config)


def measured(config: pgjax.Config) -> dict[str, float]:
    """Seconds of each phase but the import, in this process, and sizes."""
    seconds = {}

    def timed(phase, function):
        start = time.perf_counter()
        result = function()
        seconds[phase] = time.perf_counter() - start
        return result

    program = timed("trace", lambda: traced(config))
    lowered = timed("lower", program.lower)
    hlo = timed("compile", lowered.compile).as_text()
    sizes = {
        "equations": num_equations(program.jaxpr.jaxpr),
        "stablehlo_lines": lowered.as_text().count("\n"),
        "hlo_lines": hlo.count("\n"),
        "fusions": hlo.count(" fusion("),
        "loops": hlo.count(" while("),
    }
    return {**{phase: significant(x) for phase, x in seconds.items()}, **sizes}


def measured_alone(name: str) -> dict[str, Any]:
    """A program's row: the import and what follows it, each in a new process."""

    def output(*arguments):
        command = [sys.executable, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    seconds = significant(output("-c", IMPORT))
    return {"program": name, "import": seconds, **json.loads(output(__file__, "--program", name))}


def main() -> None:
    """Measures the programs, prints a table, writes compile.json, compile.md and compile.png."""
    flags = parser(__doc__.splitlines()[0])
    flags.add_argument("--write-budget", action="store_true", help="write program_size.json alone")
    flags.add_argument("--program", help="measure this one in this process, and print JSON")
    options = flags.parse_args()
    if options.program:
        print(json.dumps(measured({**PROGRAMS, **QUICK}[options.program]())))
        return
    if options.write_budget:
        sizes = {name: num_equations(traced(make()).jaxpr.jaxpr) for name, make in PROGRAMS.items()}
        BUDGET.write_text(json.dumps(sizes, indent=1) + "\n")
        return
    folder = results_folder(options)
    rows = [measured_alone(name) for name in (QUICK if options.quick else PROGRAMS)]
    header = ("program", *(f"{phase} s" for phase in PHASES), *SIZES)
    table = markdown(header, (row.values() for row in rows))
    write(folder, "compile", {"rows": rows})
    (folder / "compile.md").write_text(table)
    draw(rows, folder / "compile.png")
    print(table)


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Draws the seconds of each program by their phases."""
    figure = Figure(figsize=(6.4, 3.2), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    names, left = [row["program"] for row in rows], [0.0] * len(rows)
    for phase in PHASES:
        widths = [row[phase] for row in rows]
        axes.barh(names, widths, left=left, label=phase, height=0.7)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.invert_yaxis()
    axes.set_xlabel("seconds until the first update")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=len(PHASES), frameon=False)
    figure.savefig(path)


if __name__ == "__main__":
    main()
