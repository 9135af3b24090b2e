"""The gradient: noise and cost by estimator, and the memory that chunks of it save.

Estimates of independent trajectories, m = 16 each, by estimator and baseline at one θ,

  5-state MDP  random, with 3 actions, horizon 10 and positive rewards, under a softmax-linear
               policy; the reference is the exact gradient of `pgjax.tabular`;
  CartPole-v1  with a policy half-way through training; the reference is the mean of many other
               estimates by the least noisy unbiased estimator.

Columns: the total variance E‖g − E g‖² of one estimate; that relative to the plainest estimator's;
the mean cosine between an estimate and the reference; the component of the mean estimate along the
reference, which is 1 without bias, give or take at most √(variance / n) / ‖reference‖, its standard
error if all the noise lay that way; the median time of one compiled `pgjax.policy_gradient`; and
variance × seconds, the total variance that is left once one second's estimates are averaged.

Speed and memory: one gradient of full-length CartPole episodes by a 2×64 MLP, in chunks as pgjax
takes it, and by one plain `jax.grad` over all transitions at once. For the speed both run on the
same trajectories; for the memory each runs in a new process, on the host, whose peak of resident
memory is compared with its resident memory, trajectories included, before the gradient.

    python benchmarks/gradient.py
"""

import math
import multiprocessing
import statistics
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from common import (
    Seconds,
    compile_ahead,
    markdown,
    measure,
    parser,
    results_folder,
    significant,
    write,
)
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

import pgjax
from pgjax.training import updates
from pgjax.training.config import bind

NUM_TRAJECTORIES = 16
BASELINES = ("none", "leave_one_out", "mean")
ESTIMATORS = {
    f"{title}, {baseline}" + " (biased)" * (baseline == "mean"): estimator(baseline=baseline)
    for estimator, title in (
        (pgjax.TotalReturn, "total return"),
        (pgjax.RewardToGo, "reward-to-go"),
    )
    for baseline in BASELINES
}
BEST = pgjax.RewardToGo(baseline="leave_one_out")
MEBIBYTE = 2**20
TOLERANCE = 1e-4  # relative, between two ways to sum the same float32 numbers
ESTIMATE_HEADER = (
    "problem",
    "estimator, baseline",
    "variance",
    "relative",
    "cosine",
    "mean along reference",
    "milliseconds",
    "variance after one second",
)
SPEED_HEADER = ("gradient", "transitions", "milliseconds", "M transitions/s", "relative")
MEMORY_HEADER = ("m", "trajectories, MiB", "in chunks, MiB more", "in one pass, MiB more")


class Sizes(NamedTuple):
    """The sizes of the measurements: numbers of samples, updates and trajectories."""

    estimators: tuple[str, ...]
    mdp_samples: int
    cartpole_samples: int
    rounds: int
    speed_updates: int
    speed_m: int
    memory_ms: tuple[int, ...]


FULL = Sizes(tuple(ESTIMATORS), 16384, 2048, 40, 25, 256, (256, 1024, 4096))
QUICK = Sizes(("total return, none", "reward-to-go, leave_one_out"), 64, 16, 3, 2, 4, (8,))


class Problem(NamedTuple):
    """A state and config for which gradients are estimated, and the reference gradient."""

    name: str
    config: pgjax.Config
    state: pgjax.TrainState
    reference: Any
    num_samples: int


def main() -> None:
    """Measures, prints the tables, writes gradient.json, gradient.md and gradient.png."""
    flags = parser(__doc__.splitlines()[0]).parse_args()
    folder = results_folder(flags)
    sizes = QUICK if flags.quick else FULL
    # At small sizes compiling with all optimisations would take longer than they save.
    jax.config.update("jax_disable_most_optimizations", flags.quick)
    with ThreadPoolExecutor(2) as threads:
        numbers = (sizes.mdp_samples, sizes.cartpole_samples)
        problems = list(threads.map(lambda make, n: make(n), (finite_mdp, cart_pole), numbers))
    estimates = [e for problem in problems for e in compared(problem, sizes)]
    print(markdown(ESTIMATE_HEADER, map(estimate_row, estimates)), flush=True)
    speed = both_speeds(sizes)
    print(markdown(SPEED_HEADER, speed_rows(speed)), flush=True)
    memory = [memory_at(m) for m in sizes.memory_ms]
    print(markdown(MEMORY_HEADER, map(memory_row, memory)))
    (folder / "gradient.md").write_text(report(problems, estimates, speed, memory))
    result = {"estimates": estimates, "speed": speed, "memory": memory}
    write(folder, "gradient", {"quick": flags.quick, **result})
    picture(estimates, speed, memory, folder / "gradient.png")
    print(f"written to {folder}")


def finite_mdp(num_samples: int) -> Problem:
    """A random MDP with rewards in [0, 2], and a moderately random softmax-linear policy."""
    random = np.random.default_rng(0)
    mdp = pgjax.FiniteMDP(
        transition=random.dirichlet(np.ones(5), size=(5, 3)),
        reward=random.uniform(0.0, 2.0, size=(5, 3)),
        initial=np.full(5, 0.2),
        horizon=10,
    )
    config = pgjax.Config(
        env=mdp,
        network=pgjax.MLP(hidden_sizes=()),
        sampler=pgjax.Episodes(num_trajectories=NUM_TRAJECTORIES),
    )
    state = pgjax.init(jax.random.key(0), config)
    state = state.replace(params=optax.tree.random_like(jax.random.key(1), state.params))
    reference = pgjax.tabular.policy_gradient(state, config)
    return Problem("5-state MDP", config, state, reference, num_samples)


def cart_pole(num_samples: int) -> Problem:
    """CartPole-v1 after five updates of the default config."""
    default = pgjax.Config(env="CartPole-v1", num_updates=5)
    state, _ = pgjax.train(jax.random.key(0), default)
    config = default.replace(**{"sampler.num_trajectories": NUM_TRAJECTORIES, "estimator": BEST})
    # Given any reference, `gradient_statistics` draws its samples once, not twice.
    first, second = (
        pgjax.gradient_statistics(key, state, config, num_samples, state.params).mean
        for key in jax.random.split(jax.random.key(1))
    )
    reference = jax.tree.map(lambda a, b: (a + b) / 2, first, second)
    return Problem("CartPole-v1", config, state, reference, num_samples)


def compared(problem: Problem, sizes: Sizes) -> list[dict[str, Any]]:
    """The figures of the estimators at one problem, the plainest first."""
    configs = {n: problem.config.replace(estimator=ESTIMATORS[n]) for n in sizes.estimators}
    # Each round has its own episodes, since their lengths decide the time; estimators share them.
    keys = list(jax.random.split(jax.random.key(3), sizes.rounds))
    # Threads, since most of the time is the compiler's; none of them runs during a measurement.
    with ThreadPoolExecutor(2) as threads:
        compiled = threads.map(lambda c: estimates_of(problem.state, c, keys), configs.values())
        costs = in_turn(dict(zip(configs, compiled, strict=True)), sizes.rounds)
        results = list(threads.map(lambda n: measured(problem, n, configs[n], costs[n]), configs))
    plainest = results[0]["variance"]
    return [{**r, "relative_variance": significant(r["variance"] / plainest)} for r in results]


def estimates_of(
    state: pgjax.TrainState, config: pgjax.Config, keys: list[jax.Array]
) -> Callable[[int], Any]:
    """A function of i: the compiled estimate with the i-th key."""
    compiled, _ = compile_ahead(jax.jit(pgjax.policy_gradient), keys[0], state, config)
    return lambda index: compiled(keys[index], state, config)


def measured(problem: Problem, name: str, config: pgjax.Config, cost: Seconds) -> dict[str, Any]:
    """The figures of one estimator; `cost` is the time of one estimate."""
    moments = pgjax.gradient_statistics(
        jax.random.key(2), problem.state, config, problem.num_samples, problem.reference
    )
    along = optax.tree.vdot(moments.mean, problem.reference)
    return {
        "problem": problem.name,
        "estimator": name,
        "num_trajectories": NUM_TRAJECTORIES,
        "num_samples": problem.num_samples,
        "variance": significant(moments.total_variance),
        "cosine": significant(moments.cosine),
        "mean_along_reference": significant(along / optax.tree.norm(problem.reference) ** 2),
        "signal_to_noise": significant(moments.signal_to_noise),
        **milliseconds(cost),
        # k = 1 / seconds estimates fit in a second, and the variance of their mean is 1/k of one's.
        "variance_after_one_second": significant(moments.total_variance * cost.median),
    }


def in_turn(programs: dict[str, Callable[[int], Any]], rounds: int) -> dict[str, Seconds]:
    """Running times of programs that are called in turn, the i-th time with i, so that other work
    of the machine slows all of them alike."""
    times: dict[str, list[float]] = {name: [] for name in programs}
    for index in range(rounds):
        for name, program in programs.items():
            times[name].append(measure(partial(program, index), 3).median)
    return {
        name: Seconds(statistics.median(seconds), min(seconds), max(seconds), rounds)
        for name, seconds in times.items()
    }


def milliseconds(seconds: Seconds) -> dict[str, float | int]:
    """Running times in milliseconds, for the results."""
    return {
        "milliseconds": significant(1000 * seconds.median),
        "milliseconds_min": significant(1000 * seconds.min),
        "milliseconds_max": significant(1000 * seconds.max),
        "rounds": seconds.repeats,
    }


def in_chunks(
    state: pgjax.TrainState, trajectories: pgjax.Trajectories, config: pgjax.Config
) -> Any:
    """The gradient as pgjax takes it."""
    surrogate = updates.task(state, trajectories, bind(config, 0)).surrogate
    return surrogate.gradient(state.params, surrogate.batch()).direction


def in_one_pass(
    state: pgjax.TrainState, trajectories: pgjax.Trajectories, config: pgjax.Config
) -> Any:
    """The same gradient by `jax.grad` of the sum over all transitions at once.

    It computes log π · w alone, without the objective's value and the entropy that pgjax reports.
    """
    policy = bind(config, 0).policy
    weights = config.estimator.weights(trajectories)
    steps, m = weights.shape
    obs, action = jax.tree.map(
        lambda x: x.reshape(steps * m, *x.shape[2:]), (trajectories.obs, trajectories.action)
    )

    def objective(params):
        variables = {"params": params, **state.variables}
        log_prob = jax.vmap(lambda o, a: policy.apply(variables, o, ())[0].log_prob(a))(obs, action)
        # Weights are 0 where no step was taken.
        return jnp.sum(log_prob * weights.reshape(-1)) / m

    return jax.grad(objective)(state.params)


WAYS: dict[str, Callable] = {"chunked": in_chunks, "one_pass": in_one_pass}
TITLES = {"chunked": "in chunks", "one_pass": "in one pass"}


def both_speeds(sizes: Sizes) -> dict[str, Any]:
    """Transitions per second of both ways, on the same trajectories of a trained policy."""
    config = pgjax.Config(env="CartPole-v1", num_updates=sizes.speed_updates)
    state, _ = pgjax.train(jax.random.key(0), config)
    # Episodes of one length have the same return: with its mean as a baseline weights would be 0.
    config = config.replace(
        **{"sampler.num_trajectories": sizes.speed_m, "estimator.baseline": "none"}
    )
    trajectories = pgjax.sample_trajectories(jax.random.key(1), state, config)
    args = state, trajectories, config
    compiled = {name: compile_ahead(jax.jit(way), *args)[0] for name, way in WAYS.items()}
    programs = {name: lambda _, p=program: p(*args) for name, program in compiled.items()}
    transitions = int(jnp.sum(trajectories.valid))
    result: dict[str, Any] = {
        "env": config.env,
        "m": sizes.speed_m,
        "transitions": transitions,
        "relative_difference": agreement(*(program(*args) for program in compiled.values())),
    }
    times = in_turn(programs, sizes.rounds)
    for name, seconds in times.items():
        result[name] = {
            "transitions_per_second": significant(transitions / seconds.median),
            "lowest": significant(transitions / seconds.max),
            "highest": significant(transitions / seconds.min),
            **milliseconds(seconds),
        }
    return {**result, "ratio": significant(times["one_pass"].median / times["chunked"].median)}


def agreement(gradient: Any, other: Any) -> float:
    """‖gradient − other‖ / ‖other‖.

    Raises:
      ValueError: it exceeds the tolerance; then a comparison of the speeds means nothing.
    """
    difference = optax.tree.norm(jax.tree.map(jnp.subtract, gradient, other))
    relative = float(difference / optax.tree.norm(other))
    if not relative <= TOLERANCE:
        raise ValueError(f"the gradients differ by {relative:.3g}, relative")
    return significant(relative, 2)


def memory_at(m: int) -> dict[str, Any]:
    """MiB that one gradient of m full-length episodes needs, both ways."""
    context = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        processes = {
            name: stack.enter_context(ProcessPoolExecutor(1, mp_context=context)) for name in WAYS
        }
        running = {name: p.submit(gradient_memory, name, m) for name, p in processes.items()}
        results = {name: future.result() for name, future in running.items()}
    stored = results["chunked"][0]
    return {"m": m, "trajectories": stored, **{name: peak for name, (_, peak) in results.items()}}


def gradient_memory(name: str, m: int) -> tuple[float, float]:
    """MiB of m trajectories, and the peak of one gradient beyond them; for a new process.

    The gradient is the first call of its program: a few MiB, independent of m, are the runtime's.
    """
    jax.config.update("jax_platforms", "cpu")
    config = pgjax.Config(env="CartPole-v1").replace(**{"sampler.num_trajectories": m})
    state = pgjax.init(jax.random.key(0), config)
    shapes = jax.eval_shape(lambda: pgjax.sample_trajectories(jax.random.key(0), state, config))
    compiled, _ = compile_ahead(jax.jit(WAYS[name]), state, shapes, config)
    trajectories = jax.block_until_ready(synthetic(shapes))
    before = peak_resident(reset=True)
    jax.block_until_ready(compiled(state, trajectories, config))
    after = peak_resident()
    stored = sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(shapes))
    return significant(stored / MEBIBYTE), significant((after - before) / MEBIBYTE)


def synthetic(shapes: pgjax.Trajectories) -> pgjax.Trajectories:
    """Trajectories of these shapes with noise in their floats; every step is valid."""
    random = np.random.default_rng(0)

    def filled(leaf):
        if leaf.dtype.kind == "f":
            return jnp.asarray(random.standard_normal(leaf.shape, leaf.dtype))
        return jnp.ones(leaf.shape, leaf.dtype)

    return jax.tree.map(filled, shapes)


def peak_resident(reset: bool = False) -> int:
    """The process's peak of resident memory since it was last reset, bytes.

    A reset lowers it to the memory that is resident then. A system without resets gives the peak
    since the start of the process; a difference of two is at most the memory needed in between.
    """
    if not sys.platform.startswith("linux"):
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else 1024 * peak
    if reset:
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            print("the peak of memory cannot be reset: figures are lower bounds", file=sys.stderr)
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def report(
    problems: list[Problem],
    estimates: list[dict[str, Any]],
    speed: dict[str, Any],
    memory: list[dict[str, Any]],
) -> str:
    """Three tables, each under a paragraph that explains it."""
    numbers = " and ".join(f"{p.num_samples} on {p.name}" for p in problems)
    parts = (
        f"Gradient estimates from m = {NUM_TRAJECTORIES} trajectories, {numbers}: total variance "
        "of one estimate, the same relative to the first line, mean cosine to the reference "
        "gradient (exact on the 5-state MDP, the mean of many on CartPole-v1), the component of "
        "the mean estimate along it, 1 without bias, the median time of one estimate, and variance "
        "× seconds, the total variance of the mean of the estimates that one second has room for. "
        "More estimates do not make a bias smaller. Command: `python benchmarks/gradient.py`.",
        markdown(ESTIMATE_HEADER, map(estimate_row, estimates)),
        f"One gradient of m = {speed['m']} trajectories of {speed['env']}, 2×64 MLP, as pgjax "
        "takes it, with the objective's value and the entropy, and by one `jax.grad` over all "
        f"transitions, without; medians. They differ by {speed['relative_difference']:.1g}, "
        "relative.",
        markdown(SPEED_HEADER, speed_rows(speed)),
        "Peak of resident memory during one such gradient, beyond what a new process held before, "
        "the trajectories of m full-length episodes among it.",
        markdown(MEMORY_HEADER, map(memory_row, memory)),
    )
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def estimate_row(result: dict[str, Any]) -> tuple[str, ...]:
    """One line of the table of estimators."""
    return (
        result["problem"],
        result["estimator"],
        f"{result['variance']:.4g}",
        f"{result['relative_variance']:.3g}",
        f"{result['cosine']:.3f}",
        f"{result['mean_along_reference']:.3f}",
        f"{result['milliseconds']:.3g}",
        f"{result['variance_after_one_second']:.3g}",
    )


def speed_rows(speed: dict[str, Any]) -> list[tuple[str, ...]]:
    """The lines of the table of speeds."""
    slower = speed["one_pass"]["milliseconds"]
    return [
        (
            TITLES[name],
            str(speed["transitions"]),
            f"{speed[name]['milliseconds']:.3g}",
            f"{speed[name]['transitions_per_second'] / 1e6:.3g}",
            f"{slower / speed[name]['milliseconds']:.2f}",
        )
        for name in WAYS
    ]


def memory_row(point: dict[str, Any]) -> tuple[str, ...]:
    """One line of the table of memory."""
    return (
        str(point["m"]),
        *(f"{point[field]:.3g}" for field in ("trajectories", *WAYS)),
    )


def picture(
    estimates: list[dict[str, Any]],
    speed: dict[str, Any],
    memory: list[dict[str, Any]],
    path: Path,
) -> None:
    """Left: variance of each estimator, one panel per problem. Right: speed; memory against m."""
    figure = Figure(figsize=(9.5, 5.6), layout="constrained")
    panels = figure.subplots(2, 2, width_ratios=(1.35, 1))
    names = list(dict.fromkeys(result["problem"] for result in estimates))
    for panel, name in zip(panels[:, 0], names, strict=True):
        variance_bars(panel, [result for result in estimates if result["problem"] == name])
        panel.set_title(f"{name}: variance, first line = 1", fontsize=10)
    panels[1, 0].legend(*panels[0, 0].get_legend_handles_labels(), loc="lower right", fontsize=8)
    speed_bars(panels[0, 1], speed)
    memory_lines(panels[1, 1], memory)
    figure.savefig(path, dpi=150)


def variance_bars(panel: Any, estimates: list[dict[str, Any]]) -> None:
    """Two bars for each estimator (logarithmic), both relative to the first estimator's."""
    fields = {"variance": "one estimate", "variance_after_one_second": "one second of estimates"}
    labels = [result["estimator"].replace("_", "-") for result in estimates]
    position = np.arange(len(labels))
    lowest = 1.0
    for shift, color, (field, label) in zip((-0.2, 0.2), ("C0", "C1"), fields.items(), strict=True):
        values = [result[field] / estimates[0][field] for result in estimates]
        lowest = min(lowest, *values)
        bars = panel.barh(position + shift, values, 0.38, color=color, label=label)
        panel.bar_label(bars, [f"{value:.2g}" for value in values], padding=3, fontsize=8)
    panel.set_yticks(position, labels, fontsize=9)
    panel.invert_yaxis()
    panel.set(xscale="log", xlim=(lowest / 2, 3))
    panel.grid(axis="x", alpha=0.3)
    panel.set_axisbelow(True)


def speed_bars(panel: Any, speed: dict[str, Any]) -> None:
    """One bar for each way, from lowest to highest marked."""
    for name, color in zip(WAYS, ("C0", "0.6"), strict=True):
        low, middle, high = (
            speed[name][field] / 1e6 for field in ("lowest", "transitions_per_second", "highest")
        )
        error = [[middle - low], [high - middle]]
        bars = panel.barh([TITLES[name]], [middle], 0.6, xerr=error, color=color, ecolor="0.3")
        panel.bar_label(bars, [f"{middle:.3g}"], label_type="center", color="white", weight="bold")
    panel.invert_yaxis()
    panel.set_title(f"gradient of {speed['transitions']:,} transitions", fontsize=10)
    panel.set_xlabel("million transitions/s")
    panel.grid(axis="x", alpha=0.3)
    panel.set_axisbelow(True)


def memory_lines(panel: Any, memory: list[dict[str, Any]]) -> None:
    """MiB beyond the trajectories against m, log-log."""
    sizes = [point["m"] for point in memory]
    for name, color in zip(WAYS, ("C0", "0.6"), strict=True):
        values = [max(point[name], 0.1) for point in memory]
        panel.plot(sizes, values, color=color, marker="o", ms=4, label=TITLES[name])
        style = {"textcoords": "offset points", "ha": "center", "fontsize": 8}
        for size, value in zip(sizes, values, strict=True):
            panel.annotate(f"{value:.0f}", (size, value), (0, 5), **style)
    panel.set(xscale="log", yscale="log", xlabel="m, episodes of 500 steps", ylabel="MiB")
    panel.margins(x=0.1, y=0.15)
    panel.set_xticks(sizes, sizes)
    panel.xaxis.set_minor_locator(NullLocator())
    panel.set_title("peak memory, beyond the trajectories", fontsize=10)
    panel.legend(fontsize=8, loc="center right")
    panel.grid(alpha=0.3)


if __name__ == "__main__":
    main()
