"""The time of an update by its parts, and its share of the machine's limits.

Of one update of CartPole-v1, m = 256 full-length episodes by a trained 2×64 MLP: the seconds of its
parts, each compiled alone, on one device and on all (on a CPU: one a core),

  rollout   sampling the trajectories;
  weights   returns and baselines of all steps;
  gradient  the objective's gradient, weights included;
  update    `pgjax.update`, all of the above and the optimizer's step.

Beside them the limits, measured on the same devices: a large matrix product, and a copy between
arrays too large for the caches; and the share of the first that an update reaches, at the
floating-point operations of its matrix products alone (a multiplication and an addition each):
2 P for an action, 2 P forward and 4 P backward for a gradient, P the number of weights.

Early training: an update of the policy at its start, whose episodes are short, against one of the
trained policy, whose episodes all last the 500 steps that a fixed-length rollout would run.

And by the profiler, on one device, which of XLA's operations an update spends its time in.

    python benchmarks/limits.py
"""

# ruff: noqa: E402
import collections
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax

from pgjax.core import parallel

parallel.use_cores()  # before gymnax, which starts JAX's devices when it is imported

from common import compile_ahead, markdown, measure, parser, results_folder, significant, write
from jax.sharding import Mesh
from matplotlib.figure import Figure

import pgjax
from pgjax.runs import device_limits, update_parts
from pgjax.training.config import checked

PARTS = ("rollout", "weights", "gradient", "update")
HEADER = ("part", "ms, one device", "M steps/s", "ms, all devices", "M steps/s")
NUM_OPERATIONS = 8


def main() -> None:
    """Measures, prints tables, writes limits.json, limits.md and limits.png."""
    flags = parser(__doc__.splitlines()[0]).parse_args()
    folder = results_folder(flags)
    config, state = trained(flags.quick)
    meshes = {"one": None, "all": pgjax.make_mesh()}
    parts = {name: seconds_of_parts(config, state, mesh) for name, mesh in meshes.items()}
    limits = {name: limits_of(mesh, flags.quick) for name, mesh in meshes.items()}
    update, _ = compile_ahead(jax.jit(partial(pgjax.update, config=config)), state)
    steps = int(pgjax.sample_trajectories(jax.random.key(1), state, config).valid.sum())
    weights = sum(leaf.size for leaf in jax.tree.leaves(state.params) if leaf.ndim > 1)
    result = {
        "num_steps": steps,
        "flop_per_step": 8 * weights,
        "parts": parts,
        "limits": limits,
        "share_of_product": {
            name: significant(8 * weights * steps / parts[name]["update"] / limits[name]["flops"])
            for name in meshes
        },
        "early": early(update, config, state),
        "operations": operations(update, state),
    }
    text = report(result)
    print(text)
    (folder / "limits.md").write_text(text)
    write(folder, "limits", {"quick": flags.quick, **result})
    picture(result, folder / "limits.png")
    print(f"written to {folder}")


def trained(quick: bool) -> tuple[pgjax.Config, pgjax.TrainState]:
    """A config that keeps its policy (learning rate 0), and a trained one."""
    default = pgjax.Config("CartPole-v1", num_updates=2 if quick else 25)
    state, _ = pgjax.train(jax.random.key(0), default)
    changes = {"sampler.num_trajectories": 32 if quick else 256, "optimizer.learning_rate": 0.0}
    return checked(default.replace(**changes)), state


def seconds_of_parts(
    config: pgjax.Config, state: pgjax.TrainState, mesh: Mesh | None
) -> dict[str, float]:
    """Median seconds of each part."""
    state = parallel.replicated(state, mesh)
    parts = update_parts.parts_of(state, config, mesh)
    update = jax.jit(partial(pgjax.update, config=config, mesh=mesh))
    seconds = {**parts._asdict(), "update": device_limits.seconds_of(update, state)}
    return {name: significant(seconds[name]) for name in PARTS}


def early(update: Callable, config: pgjax.Config, trained: pgjax.TrainState) -> dict[str, float]:
    """Seconds of an update on one device, at the start of training and with full episodes."""
    fresh = pgjax.init(jax.random.key(2), config)
    states = {"start": fresh, "full": trained}
    lengths = {name: update(state)[1].episode_length for name, state in states.items()}
    seconds = {
        name: measure(partial(update, state), repeats=20).median for name, state in states.items()
    }
    return {
        "start_seconds": significant(seconds["start"]),
        "full_seconds": significant(seconds["full"]),
        "start_length": significant(lengths["start"]),
        "full_length": significant(lengths["full"]),
        "ratio": significant(seconds["full"] / seconds["start"], 3),
    }


def limits_of(mesh: Mesh | None, quick: bool) -> dict[str, float]:
    """Floating-point operations a second of a large product; bytes a second of a large copy."""
    limits = device_limits.limits_of(mesh, (512, 2**20) if quick else (4096, 2**27))
    return {"flops": significant(limits.operations), "copy_bytes": significant(limits.copied_bytes)}


def operations(update: Callable, state: pgjax.TrainState) -> dict[str, float]:
    """Shares of the time of an update's operations, by the profiler, the largest first."""
    jax.block_until_ready(update(state))
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(5):
                jax.block_until_ready(update(state))
        (file,) = Path(folder).rglob("*.xplane.pb")
        data = jax.profiler.ProfileData.from_serialized_xspace(file.read_bytes())
    spent: collections.Counter = collections.Counter()
    for plane in data.planes:
        for line in plane.lines:
            for event in line.events:
                if "hlo_op" in dict(event.stats):
                    spent[operation_name(event.name)] += event.duration_ns
    for control in ("while", "call", "conditional"):  # these contain other operations
        spent.pop(control, None)
    total = spent.total() or 1
    return {name: significant(time / total, 3) for name, time in spent.most_common(NUM_OPERATIONS)}


def operation_name(name: str) -> str:
    """An operation's name without its number."""
    return name.split(".")[0].rstrip("0123456789").replace("_fusion", "").strip("_") or name


def report(result: dict[str, Any]) -> str:
    """The tables, in Markdown."""
    steps, parts = result["num_steps"], result["parts"]

    def cells(name: str, part: str) -> tuple[str, str]:
        seconds = parts[name][part]
        return f"{1e3 * seconds:.1f}", f"{steps / seconds / 1e6:.2f}"

    rows = [(part, *cells("one", part), *cells("all", part)) for part in PARTS]
    limits = [
        (
            name,
            f"{result['limits'][name]['flops'] / 1e9:.0f}",
            f"{result['limits'][name]['copy_bytes'] / 1e9:.1f}",
            f"{result['share_of_product'][name]:.2f}",
        )
        for name in ("one", "all")
    ]
    spent = [(name, f"{100 * share:.0f} %") for name, share in result["operations"].items()]
    header = ("devices", "product, GFLOP/s", "copy, GB/s", "an update's share of the product")
    return "\n".join(
        [
            f"One update of {steps} steps:\n",
            markdown(HEADER, rows),
            markdown(header, limits),
            early_line(result["early"]),
            "Operations of an update on one device:\n",
            markdown(("operation", "time"), spent),
        ]
    )


def early_line(figures: dict[str, float]) -> str:
    """The figures of early training in a sentence."""
    return (
        f"An update at the start of training (mean length {figures['start_length']:.0f}) takes "
        f"{1e3 * figures['start_seconds']:.1f} ms, one of full-length episodes "
        f"({figures['full_length']:.0f}) {1e3 * figures['full_seconds']:.1f} ms: "
        f"{figures['ratio']:.1f} times as long.\n"
    )


def picture(result: dict[str, Any], path: Path) -> None:
    """Left: the parts' times; right: the operations' shares."""
    figure = Figure(figsize=(8.5, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for offset, (name, label) in enumerate((("one", "one device"), ("all", "all devices"))):
        times = [1e3 * result["parts"][name][part] for part in PARTS]
        positions = [index + 0.4 * offset for index in range(len(PARTS))]
        bars = left.bar(positions, times, width=0.38, label=label)
        left.bar_label(bars, [f"{time:.0f}" if time >= 1 else "<1" for time in times], fontsize=8)
    left.set_xticks([index + 0.2 for index in range(len(PARTS))], PARTS)
    left.set_ylabel("milliseconds")
    left.legend(frameon=False, fontsize=8)
    names = [name[:34] for name in result["operations"]][::-1]
    shares = [100 * share for share in result["operations"].values()][::-1]
    right.bar_label(right.barh(names, shares, color="C2"), fmt="%.0f %%", fontsize=8, padding=2)
    right.set(xlabel="time of an update, one device", xlim=(0, 1.25 * max(shares, default=1)))
    right.tick_params(axis="y", labelsize=8)
    for panel in (left, right):
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
