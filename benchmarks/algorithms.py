"""Training speed of the algorithms beside the no-learning ceiling, and of a well-known job.

  job      CartPole-v1, PPO with 4 environments × 128 steps, 4 epochs × 4 minibatches, two separate
           2 × 64 tanh networks, 500 000 steps: the defaults of a widely used JAX implementation;
  ceiling  plain gymnax with auto-reset and the same policy, no learning, as many environments;
  others   each algorithm's own settings with 256 environments, on CartPole-v1 and, with the CNN, on
           Breakout-MinAtar; PPO also with one pass over the data instead of four, and with one
           network for policy and value instead of two.

Whole runs of `pgjax.train`, on the devices that `pgjax train` would use: its speed is environment
steps by running time, compilation (in seconds) apart.

    python benchmarks/algorithms.py
"""

# ruff: noqa: E402

from functools import partial
from pathlib import Path
from typing import Any

import jax

from pgjax.core import parallel

parallel.use_cores()  # before gymnax, which starts JAX's devices when it is imported

from common import markdown, parser, results_folder, significant, write
from matplotlib.figure import Figure
from throughput import auto_reset_rollout, speed

import pgjax

JOB_STEPS = 500_000
ENVIRONMENTS = 256
CEILING_STEPS = 256
ALGORITHMS = ("actor_critic", "ppo", "natural_policy_gradient")
HEADER = ("environment", "algorithm", "envs", "devices", "M steps/s", "ceiling", "ratio", "compile")


def main() -> None:
    """Measures, prints a table, writes algorithms.json, .md and .png."""
    flags = parser(__doc__.splitlines()[0]).parse_args()
    folder = results_folder(flags)
    scale = 16 if flags.quick else 1
    cases = [("the job", job(JOB_STEPS // scale**2))]
    environments = {"CartPole-v1": {"num_updates": max(2, 20 // scale)}}
    if not flags.quick:
        environments["Breakout-MinAtar"] = {"network": pgjax.CNN(), "num_updates": 3}
    for env, changes in environments.items():
        for name in ("ppo",) if flags.quick else ALGORITHMS:
            config = getattr(pgjax, name)(env, **changes)
            width = {"sampler.num_envs": ENVIRONMENTS // scale}
            cases.append((name, config.replace(**width)))
            if name == "ppo":
                one_pass = {"ascent.epochs": 1, "critic.epochs": 1}
                cases.append(("ppo, one pass", config.replace(**width, **one_pass)))
                shared = {"critic": pgjax.SharedCritic()}
                cases.append(("ppo, one network", config.replace(**width, **shared)))
    points = []
    for name, config in cases[::3] if flags.quick else cases:
        points.append(measured(name, config))
        print(markdown(HEADER, [row(points[-1])]).splitlines()[-1], flush=True)
    table = markdown(HEADER, map(row, points))
    (folder / "algorithms.md").write_text(table)
    write(folder, "algorithms", {"quick": flags.quick, "points": points})
    picture(points, folder / "algorithms.png")
    print(f"\n{table}\nwritten to {folder}")


def job(steps: int) -> pgjax.Config:
    """The config of the well-known job, see above."""
    return pgjax.Config(
        "CartPole-v1",
        sampler=pgjax.Segments(4, 128),
        estimator=pgjax.GAE(standardize=True),
        critic=pgjax.Critic(learning_rate=2.5e-4, value_clip=0.2),
        objective=pgjax.ClippedRatio(entropy_coefficient=0.01),
        ascent=pgjax.Passes(),
        optimizer=pgjax.Adam(2.5e-4, max_gradient_norm=0.5),
        num_updates=steps // 512,
    )


def measured(name: str, config: pgjax.Config) -> dict[str, Any]:
    """Measures the steps per second of an entire run, and of the ceiling."""
    state = pgjax.init(jax.random.key(0), config)
    width = config.sampler.width
    devices = parallel.fitting(width)
    mesh = pgjax.make_mesh(devices) if devices > 1 else None
    train = jax.jit(lambda key, config: (config, pgjax.train(key, config, mesh).state))
    steps = config.num_updates * width * config.sampler.length
    training = speed(train, (jax.random.key(1), config), steps)
    rollout = partial(auto_reset_rollout, steps=CEILING_STEPS, random=False)
    keys = jax.random.split(jax.random.key(2), width)
    ceiling = speed(jax.jit(rollout), (keys, state, config), width * CEILING_STEPS)
    ratio = training["steps_per_second"] / ceiling["steps_per_second"]
    return {
        "name": name,
        "env": config.env,
        "num_envs": width,
        "devices": devices,
        "train": training,
        "ceiling": ceiling,
        "ratio": significant(ratio, 3),
    }


def row(point: dict[str, Any]) -> tuple[str, ...]:
    """One line of the table."""
    return (
        point["env"],
        point["name"],
        str(point["num_envs"]),
        str(point["devices"]),
        f"{point['train']['steps_per_second'] / 1e6:.3f}",
        f"{point['ceiling']['steps_per_second'] / 1e6:.3f}",
        f"{point['ratio']:.2f}",
        f"{point['train']['compile_seconds']:.1f}",
    )


def picture(points: list[dict[str, Any]], path: Path) -> None:
    """Draws two bars for each: training and its ceiling."""
    figure = Figure(figsize=(7.5, 0.9 + 0.42 * len(points)), layout="constrained")
    axes = figure.subplots()
    positions = range(len(points))
    for offset, (line, color) in enumerate((("ceiling", "0.8"), ("train", "C1"))):
        speeds = [point[line]["steps_per_second"] / 1e6 for point in points]
        bars = axes.barh(
            [y + 0.36 * offset for y in positions], speeds, 0.36, color=color, label=line
        )
        axes.bar_label(bars, [f"{x:.2g}" for x in speeds], fontsize=8, padding=2)
    names = [f"{p['env'].split('-')[0]}, {p['name'].replace('_', ' ')}" for p in points]
    axes.set_yticks([y + 0.18 for y in positions], names)
    axes.invert_yaxis()
    axes.set(xlabel="million environment steps/s", xscale="log")
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
