"""Three recurrent cells on problems that need a memory over 5 steps and over 50.

REINFORCE with rewards to go, 64 whole episodes an update, gradients through whole episodes; the
observation goes straight into a cell of 32. The learning rate is 0.01, for MinGRU 0.02; gradients
clipped to a norm of 1 solved fewer seeds of the GRU, and nothing was tuned for the LSTM. A seed
is solved if the mean return of 256 new episodes is at least nine tenths of the way from the best
return without a memory to the best with one.

    python benchmarks/memory.py
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
from common import markdown, parser, results_folder, significant, write
from matplotlib.figure import Figure
from t_maze import TMaze, TMazeParams

import pgjax

CELLS = {"GRU": (nn.GRUCell, 0.01), "LSTM": (nn.LSTMCell, 0.01), "MinGRU": (pgjax.MinGRU, 0.02)}
EPISODES = 256
HEADER = ("task", "cell", "updates", "seeds", "solved", "mean", "worst", "median solved at")


class Task(NamedTuple):
    """A problem.

    Attributes:
      name: in the table.
      config: environment and its parameters.
      blind: the best return without a memory.
      best: the best return with one.
      num_updates: of each cell's training.
    """

    name: str
    config: pgjax.Config
    blind: float
    best: float
    num_updates: int


def chain(length: int) -> pgjax.Config:
    """bsuite's memory chain: the sign of the first step is to be repeated at the end."""
    config = pgjax.Config("MemoryChain-bsuite")
    limits = {"memory_length": length, "max_steps_in_episode": length + 2}
    return config.replace(**{f"env_params.{name}": value for name, value in limits.items()})


def maze(length: int) -> pgjax.Config:
    """The T-maze."""
    params = TMazeParams(length=length, max_steps_in_episode=3 * length)
    return pgjax.Config(TMaze(), env_params=params)


TASKS = (
    Task("memory chain, 5 steps", chain(5), 0.0, 1.0, 300),
    Task("memory chain, 50 steps", chain(50), 0.0, 1.0, 1000),
    Task("T-maze, 50 steps", maze(50), 1.95, 4.0, 600),
)
QUICK = (Task("T-maze, 3 steps", maze(3), 1.95, 4.0, 3),)


def measured(task: Task, cell: str, num_seeds: int) -> dict[str, Any]:
    """The returns of all seeds after training, and the median seed's during training."""
    cell_class, rate = CELLS[cell]
    config = task.config.replace(
        network=pgjax.Recurrent(pgjax.MLP(()), 32, cell=cell_class),
        sampler=pgjax.Episodes(64),
        optimizer=pgjax.Adam(rate),
        num_updates=task.num_updates,
    )

    def learned(key):
        state, metrics = pgjax.train(key, config)
        evaluation_key = jax.random.fold_in(key, 1)
        return metrics.episode_return, pgjax.evaluate(evaluation_key, state, config, EPISODES).mean

    keys = jax.random.split(jax.random.key(0), num_seeds)
    curves, returns = map(np.asarray, jax.jit(jax.vmap(learned))(keys))
    threshold = task.blind + 0.9 * (task.best - task.blind)
    passed = np.flatnonzero(np.median(curves, axis=0) >= threshold)
    return {
        "task": task.name,
        "cell": cell,
        "learning_rate": rate,
        "num_updates": task.num_updates,
        "returns": [significant(x) for x in returns],
        "solved": int((returns >= threshold).sum()),
        "median_solved_at": int(passed[0]) if passed.size else None,
        "curve": [significant(x) for x in np.median(curves, axis=0)],
    }


def row(point: dict[str, Any]) -> tuple[str, ...]:
    """One line of the table."""
    returns = np.array(point["returns"])
    solved_at = point["median_solved_at"]
    return (
        *(point["task"], point["cell"], str(point["num_updates"])),
        *(str(len(returns)), str(point["solved"])),
        *(
            f"{returns.mean():.2f}",
            f"{returns.min():.2f}",
            "–" if solved_at is None else str(solved_at),
        ),
    )


def picture(tasks: tuple[Task, ...], points: list[dict[str, Any]], path: Any) -> None:
    """Draws the median seed's return during training, a line for each cell."""
    figure = Figure(figsize=(3.4 * len(tasks), 2.8), layout="constrained")
    for axes, task in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks, strict=True):
        for point in points:
            if point["task"] == task.name:
                axes.plot(point["curve"], linewidth=1, label=point["cell"])
        axes.axhline(task.blind, color="0.5", linewidth=1, linestyle=":")
        axes.set(title=task.name, xlabel="update", ylabel="return, median seed")
        low = task.blind - 0.5 * (task.best - task.blind)
        axes.set_ylim(low, task.best + 0.1)
        axes.legend(frameon=False, fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Trains, prints a table, writes memory.json, .md and .png."""
    flags = parser(__doc__.splitlines()[0]).parse_args()
    folder = results_folder(flags)
    tasks, num_seeds = (QUICK, 2) if flags.quick else (TASKS, 10)
    points = []
    for task in tasks:
        for cell in ["MinGRU"] if flags.quick else CELLS:
            points.append(measured(task, cell, num_seeds))
            print(*row(points[-1]), sep="  ", flush=True)
    table = markdown(HEADER, map(row, points))
    (folder / "memory.md").write_text(table)
    write(folder, "memory", {"quick": flags.quick, "points": points})
    picture(tasks, points, folder / "memory.png")
    print(f"{table}\nwritten to {folder}")


if __name__ == "__main__":
    main()
