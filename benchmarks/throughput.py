"""Trained environment steps per second beside their ceiling: the same rollout without learning.

Five programs for each environment and each number m of trajectories side by side:

  environment  plain gymnax, m auto-reset environments, random actions;
  ceiling      the same with the policy choosing the actions, no learning;
  train        `pgjax.update` scanned over, as `pgjax.train` does: only valid steps count;
  ceiling all  the ceiling, its environments divided over all devices (on a CPU: one a core);
  train all    `pgjax.update` with a mesh of all devices, as `pgjax train` does.

Auto-reset computes a reset in every step, whole episodes do not: with few side by side, where the
number of operations counts and not their size, training may exceed its ceiling.

The policy is a trained one, and the learning rate is 0 during the measurement: the arithmetic is
that of any other rate, but the policy, and with it the length of the episodes, stays the same in
every block and at every m.

    python benchmarks/throughput.py
"""

# ruff: noqa: E402

import math
from functools import partial
from pathlib import Path
from typing import Any

import jax

from pgjax.core import parallel

parallel.use_cores()  # before gymnax, which starts JAX's devices when it is imported

import gymnax
import jax.numpy as jnp
from common import (
    compile_ahead,
    measure,
    parser,
    per_second,
    results_folder,
    significant,
    write,
)
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

import pgjax
from pgjax.training.config import bind

# Settings by which the measured policies are trained. Breakout's then last longer than random ones.
ENVIRONMENTS = {
    "CartPole-v1": {},
    "Acrobot-v1": {},
    "Pendulum-v1": {},
    "Breakout-MinAtar": {"optimizer.learning_rate": 3e-3, "num_updates": 120},
}
SIZES = (1, 16, 64, 256, 1024, 4096)
LINES = ("environment", "ceiling", "train", "ceiling_all", "train_all")
STEPS = 2**18  # per measured call, about; fewer where few run side by side
MAX_LENGTH = 2**14
MAX_UPDATES = 8
MAX_BYTES = 2**32  # of trajectories


def main() -> None:
    """Measures, prints a table, writes throughput.json and throughput.png."""
    flags = parser(__doc__.splitlines()[0]).parse_args()
    folder = results_folder(flags)
    environments = {"CartPole-v1": {"num_updates": 1}} if flags.quick else ENVIRONMENTS
    sizes = (16,) if flags.quick else SIZES
    target = 2**8 if flags.quick else STEPS
    print("million steps/s, medians; compile: seconds for `train`, not counted in its speed")
    names = " ".join(f"{name.replace('_', ' '):>11}" for name in LINES)
    print(f"{'':17}{'m':>5}{names} compile")
    points = []
    for name, overrides in environments.items():
        config, state, length = trained(name, overrides)
        for m in sizes:
            points.append(measure_size(config, state, length, m, target))
            print(row(points[-1]), flush=True)
    write(folder, "throughput", {"quick": flags.quick, "points": points})
    picture(points, folder / "throughput.png")
    print(f"written to {folder}")


def trained(name: str, overrides: dict[str, Any]) -> tuple[pgjax.Config, pgjax.TrainState, float]:
    """A config whose policy has learned something, its state, and its mean episode length."""
    config = pgjax.Config(env=name).replace(**overrides)
    state, metrics = pgjax.train(jax.random.key(0), config)
    return config, state, float(metrics.episode_length[-1])


def measure_size(
    config: pgjax.Config, state: pgjax.TrainState, length: float, m: int, target: int
) -> dict[str, Any]:
    """The five speeds with m side by side; without `train` where its memory would be too large."""
    steps = max(16, min(target // m, MAX_LENGTH))
    config = config.replace(
        **{
            "sampler.num_trajectories": m,
            "estimator.baseline": "none" if m == 1 else "leave_one_out",
            "optimizer.learning_rate": 0.0,
        }
    )
    point: dict[str, Any] = {"env": config.env, "m": m}
    for line, random_actions in (("environment", True), ("ceiling", False)):
        rollout = partial(auto_reset_rollout, steps=steps, random=random_actions)
        arguments = jax.random.split(jax.random.key(1), m), state, config
        point[line] = speed(jax.jit(rollout), arguments, m * steps)
    mesh = pgjax.make_mesh() if m % jax.device_count() == 0 else None
    if mesh is not None:
        divided = parallel.on_shares(rollout, mesh, (0, None, None), 0)
        point["ceiling_all"] = speed(jax.jit(divided), arguments, m * steps)
    needed = trajectory_bytes(config, state)
    if needed > MAX_BYTES:
        return {**point, "skipped": f"train: {needed / 2**30:.1f} GiB of trajectories"}
    num_updates = max(1, min(round(target / (m * length)), MAX_UPDATES))
    for line, devices in (("train", None), ("train_all", mesh)):
        if line == "train" or mesh is not None:
            program = partial(train_block, num_updates=num_updates, mesh=devices)
            point[line] = speed(jax.jit(program), (state, config))
    episode_length = significant(point["train"]["num_steps"] / (m * num_updates))
    return {**point, "num_updates": num_updates, "episode_length": episode_length}


def auto_reset_rollout(keys, state, config, steps: int, random: bool) -> jax.Array:
    """The sums of rewards of `steps` steps of plain gymnax's auto-reset environments, [keys]."""
    m, key = keys.shape[0], keys[0]
    env, env_params = gymnax.make(config.env)
    policy = bind(config, 0).policy
    variables = {"params": state.params, **state.variables}

    def act(key, obs):
        if random:
            return env.action_space(env_params).sample(key)
        return sampled(key, policy.apply(variables, obs, ())[0])

    def step(carry, key):
        obs, env_state = carry
        act_key, step_key = jax.random.split(key)
        action = jax.vmap(act)(jax.random.split(act_key, m), obs)
        obs, env_state, reward, *_ = jax.vmap(env.step, (0, 0, 0, None))(
            jax.random.split(step_key, m), env_state, action, env_params
        )
        return (obs, env_state), reward

    reset_key, run_key = jax.random.split(key)
    start = jax.vmap(env.reset, (0, None))(jax.random.split(reset_key, m), env_params)
    _, rewards = jax.lax.scan(step, start, jax.random.split(run_key, steps))
    return jnp.sum(rewards, axis=0)


def sampled(key: jax.Array, distribution: Any) -> jax.Array:
    """An action by JAX's own samplers, without pgjax."""
    if hasattr(distribution, "logits"):
        return jax.random.categorical(key, distribution.logits)
    noise = jax.random.normal(key, distribution.mean.shape)
    action = distribution.mean + jnp.exp(distribution.log_std) * noise
    return distribution.environment_action(action)


def train_block(state, config, num_updates: int, mesh: Any = None) -> pgjax.TrainResult:
    """`pgjax.train` from a given state on: a scan over `pgjax.update`."""

    def step(state, _):
        return pgjax.update(state, config, mesh)

    return pgjax.TrainResult(*jax.lax.scan(step, state, length=num_updates))


def speed(program: Any, args: tuple, num_steps: int | None = None) -> dict[str, float]:
    """Steps per second of a jitted program; it counts its own steps if none are given."""
    compiled, compile_seconds = compile_ahead(program, *args)
    if num_steps is None:
        (before, _), (after, _) = args, compiled(*args)
        num_steps = int(after.env_steps - before.env_steps)
    seconds = measure(partial(compiled, *args))
    return {
        **per_second(num_steps, seconds),
        "compile_seconds": significant(compile_seconds, 3),
    }


def trajectory_bytes(config: pgjax.Config, state: pgjax.TrainState) -> int:
    """Bytes of the trajectories of one update."""
    shapes = jax.eval_shape(
        lambda: pgjax.sample_trajectories(jax.random.key(0), state, config),
    )
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(shapes))


def row(point: dict[str, Any]) -> str:
    """One line of the printed table."""

    def millions(line):
        return f"{point[line]['steps_per_second'] / 1e6:11.3f}" if line in point else f"{'—':>11}"

    text = f"{point['env']:17}{point['m']:5}{' '.join(map(millions, LINES))}"
    if "skipped" in point:
        return f"{text}\n  skipped {point['skipped']}"
    return f"{text} {point['train']['compile_seconds']:7.1f}"


def picture(points: list[dict[str, Any]], path: Path) -> None:
    """Steps/s against m, log-log, one panel per environment; bars from lowest to highest."""
    names = list(dict.fromkeys(point["env"] for point in points))
    figure = Figure(figsize=(2.2 + 2.4 * len(names), 3.4), layout="constrained")
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    labels = (
        "environment alone",
        "+ policy (ceiling)",
        "pgjax, one device",
        "ceiling, all devices",
        "pgjax, all devices",
    )
    styles = (("0.7", "-"), ("C0", "--"), ("C1", "--"), ("C0", "-"), ("C1", "-"))
    for panel, name in zip(panels, names, strict=True):
        for line, label, (color, style) in zip(LINES, labels, styles, strict=True):
            measured = [p for p in points if p["env"] == name and line in p]
            sizes, speeds = [p["m"] for p in measured], [p[line] for p in measured]
            middle = [s["steps_per_second"] for s in speeds]
            spread = [
                [s["steps_per_second"] - s["lowest"] for s in speeds],
                [s["highest"] - s["steps_per_second"] for s in speeds],
            ]
            format_ = {"color": color, "linestyle": style, "marker": "o", "ms": 3.5}
            panel.errorbar(sizes, middle, spread, label=label, **format_)
        panel.set(xscale="log", yscale="log", title=name, xlabel="m, side by side")
        panel.set_xticks(sorted({p["m"] for p in points}))
        panel.set_xticklabels(sorted({p["m"] for p in points}), fontsize=8)
        panel.xaxis.set_minor_locator(NullLocator())
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("environment steps/s")
    handles = panels[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper center", ncols=3, fontsize=8, frameon=False)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
