"""How noisy one gradient estimate is, by estimator and baseline, at the same θ and the same m.

`pgjax.gradient_statistics` of independent estimates from m = 16 trajectories each,

  5-state MDP  random, with 3 actions, horizon 10 and positive rewards, under a softmax-linear
               policy; the reference is the exact gradient of `pgjax.tabular`;
  CartPole-v1  with a policy half-way through training; the reference is the mean of many other
               estimates by the least noisy unbiased estimator.

Columns: the total variance E‖g − E g‖² of one estimate; that relative to the plainest estimator's;
the mean cosine between an estimate and the reference; and the component of the mean estimate along
the reference, which is 1 without bias, give or take at most √(variance / n) / ‖reference‖, its
standard error if all the noise lay that way.

    python benchmarks/variance.py
"""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from common import markdown, parser, results_folder, significant, write
from matplotlib.figure import Figure

import pgjax

NUM_TRAJECTORIES = 16
BASELINES = ("none", "leave_one_out", "mean")
ESTIMATORS = {
    f"{title}, {baseline}" + " (biased)" * (baseline == "mean"): kind(baseline=baseline)
    for kind, title in ((pgjax.TotalReturn, "total return"), (pgjax.RewardToGo, "reward-to-go"))
    for baseline in BASELINES
}
QUICK = ("total return, none", "reward-to-go, leave_one_out")
BEST = pgjax.RewardToGo(baseline="leave_one_out")
HEADER = (
    "problem",
    "estimator, baseline",
    "variance",
    "relative",
    "cosine",
    "mean along reference",
)


class Problem(NamedTuple):
    """Where gradients are estimated, and the gradient that they should point to."""

    name: str
    config: pgjax.Config
    state: pgjax.TrainState
    reference: Any
    num_samples: int


def main() -> None:
    """Measures, prints a table, writes variance.json, variance.md and variance.png."""
    flags = parser(__doc__.splitlines()[0]).parse_args()
    folder = results_folder(flags)
    mdp_samples, cartpole_samples = (64, 16) if flags.quick else (16384, 2048)
    problems = [finite_mdp(mdp_samples), cart_pole(cartpole_samples)]
    names = QUICK if flags.quick else tuple(ESTIMATORS)
    results = [result for problem in problems for result in compared(problem, names)]
    table = markdown(HEADER, map(row, results))
    print(table)
    (folder / "variance.md").write_text(caption(problems) + "\n" + table)
    write(folder, "variance", {"quick": flags.quick, "estimates": results})
    picture(results, folder / "variance.png")
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
    reference = pgjax.gradient_statistics(jax.random.key(1), state, config, 2 * num_samples).mean
    return Problem("CartPole-v1", config, state, reference, num_samples)


def compared(problem: Problem, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """The figures of the named estimators at one problem, the plainest first."""
    results = [measured(problem, name) for name in names]
    plainest = results[0]["variance"]
    return [{**r, "relative_variance": significant(r["variance"] / plainest)} for r in results]


def measured(problem: Problem, name: str) -> dict[str, Any]:
    """The figures of one estimator."""
    found = pgjax.gradient_statistics(
        jax.random.key(2),
        problem.state,
        problem.config.replace(estimator=ESTIMATORS[name]),
        problem.num_samples,
        problem.reference,
    )
    along = optax.tree.vdot(found.mean, problem.reference)
    return {
        "problem": problem.name,
        "estimator": name,
        "num_trajectories": NUM_TRAJECTORIES,
        "num_samples": problem.num_samples,
        "variance": significant(found.total_variance),
        "cosine": significant(found.cosine),
        "mean_along_reference": significant(along / optax.tree.norm(problem.reference) ** 2),
        "signal_to_noise": significant(found.signal_to_noise),
    }


def caption(problems: list[Problem]) -> str:
    """What the table shows, in one paragraph."""
    numbers = " and ".join(f"{p.num_samples} on {p.name}" for p in problems)
    return (
        f"Gradient estimates from m = {NUM_TRAJECTORIES} trajectories, {numbers}: total variance "
        "of one estimate, the same relative to the first line, mean cosine to the reference "
        "gradient (exact on the 5-state MDP, the mean of many on CartPole-v1), and the component "
        "of the mean estimate along it, 1 without bias. "
        "Command: `python benchmarks/variance.py`.\n"
    )


def row(result: dict[str, Any]) -> tuple[str, ...]:
    """One line of the table."""
    return (
        result["problem"],
        result["estimator"],
        f"{result['variance']:.4g}",
        f"{result['relative_variance']:.3g}",
        f"{result['cosine']:.3f}",
        f"{result['mean_along_reference']:.3f}",
    )


def picture(results: list[dict[str, Any]], path: Path) -> None:
    """Bars of the relative variance (logarithmic) and of the cosine; one row per problem."""
    names = list(dict.fromkeys(result["problem"] for result in results))
    lowest = min(result["relative_variance"] for result in results)
    figure = Figure(figsize=(8.5, 0.6 + 2.1 * len(names)), layout="constrained")
    panels = figure.subplots(len(names), 2, sharey=True, squeeze=False)
    for (left, right), name in zip(panels, names, strict=True):
        found = [result for result in results if result["problem"] == name][::-1]
        labels = [result["estimator"].replace("_", "-") for result in found]
        colors = ["0.7" if "biased" in label else "C0" for label in labels]
        for panel, field in ((left, "relative_variance"), (right, "cosine")):
            values = [result[field] for result in found]
            bars = panel.barh(labels, values, color=colors)
            panel.bar_label(bars, [f"{value:.2g}" for value in values], padding=3, fontsize=8)
            panel.grid(axis="x", alpha=0.3)
            panel.set_axisbelow(True)
        left.set(xscale="log", xlim=(lowest / 2, 3), title=f"{name}: relative variance")
        right.set(xlim=(0, 1.1), title=f"{name}: cosine to the reference")
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
