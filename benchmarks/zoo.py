"""PPO with the settings that RL Baselines3 Zoo has for it, copied number by number.

The results for a user who brings settings from Stable-Baselines3: `n_envs`, `n_steps`, `n_epochs`,
the batch size as a number of minibatches, `gamma`, `gae_lambda`, `clip_range`, `learning_rate`,
`max_grad_norm`; `lin_x` falls linearly from x to 0. Networks begin orthogonal, the default there.
The critic has the policy's learning rate, passes and λ, which both share there. Not copied: gSDE,
its noise in Pendulum; the normal head replaces it.

    python benchmarks/zoo.py
"""

from typing import Any

import jax
import numpy as np
import optax
from common import markdown, parser, results_folder, significant, write
from matplotlib.figure import Figure

import pgjax

# Mean returns with the policy's mode from the Zoo's own table: one run each.
PUBLISHED = {"CartPole-v1": 500.0, "Pendulum-v1": -172.2}
HEADER = ("environment", "env steps", "seeds", "mean", "median", "worst", "mode", "Zoo")
EPISODES = 128


def falling(start: float) -> pgjax.Schedule:
    """The Zoo's `lin_start`: falls linearly to 0 over the training."""
    length = pgjax.Share(1.0)
    return pgjax.Schedule(
        optax.linear_schedule, init_value=start, end_value=0.0, transition_steps=length
    )


def settings(env: str, steps: int) -> pgjax.Config:
    """The Zoo's settings for CartPole-v1 or Pendulum-v1."""
    cart = env == "CartPole-v1"
    num_envs, length = (8, 32) if cart else (4, 1024)
    rate = falling(1e-3) if cart else 1e-3
    gae_lambda = 0.8 if cart else 0.95
    passes = {"epochs": 20 if cart else 10, "minibatches": 1 if cart else 64}
    return pgjax.Config(
        env,
        network=pgjax.MLP(initializer="orthogonal"),
        distribution="auto" if cart else "normal",
        sampler=pgjax.Segments(num_envs, length),
        estimator=pgjax.GAE(
            discount=0.98 if cart else 0.9, gae_lambda=gae_lambda, standardize=True
        ),
        critic=pgjax.Critic(learning_rate=rate, td_lambda=gae_lambda, **passes),
        objective=pgjax.ClippedRatio(epsilon=falling(0.2) if cart else 0.2),
        ascent=pgjax.Passes(**passes),
        optimizer=pgjax.Adam(rate, max_gradient_norm=0.5),
        num_updates=-(-steps // (num_envs * length)),
    )


def measured(env: str, num_seeds: int, steps: int) -> dict[str, Any]:
    """Every seed's mean return over 128 episodes, with sampled actions and with the mode."""
    config = settings(env, steps)
    keys = jax.random.split(jax.random.key(0), num_seeds)
    states, _ = jax.jit(jax.vmap(pgjax.train, (0, None)))(keys, config)

    def returns(deterministic: bool) -> list[float]:
        def mean_return(key, state):
            return pgjax.evaluate(key, state, config, EPISODES, deterministic).mean

        evaluation_keys = jax.random.split(jax.random.key(1), num_seeds)
        return [significant(x) for x in jax.jit(jax.vmap(mean_return))(evaluation_keys, states)]

    return {
        "env": env,
        "env_steps": config.num_updates * config.sampler.width * config.sampler.length,
        "sampled": returns(False),
        "mode": returns(True),
        "published": PUBLISHED[env],
    }


def row(point: dict[str, Any]) -> tuple[str, ...]:
    """One line of the table."""
    sampled, mode = np.array(point["sampled"]), np.array(point["mode"])
    numbers = sampled.mean(), np.median(sampled), sampled.min(), mode.mean(), point["published"]
    steps = f"{point['env_steps']:,}"
    return (point["env"], steps, str(len(sampled)), *(f"{x:.1f}" for x in numbers))


def picture(points: list[dict[str, Any]], path: Any) -> None:
    """Draws a dot for each seed, a line for the Zoo's return."""
    figure = Figure(figsize=(6.5, 2.6), layout="constrained")
    for axes, point in zip(figure.subplots(1, len(points), squeeze=False)[0], points, strict=True):
        for position, name in enumerate(("sampled", "mode")):
            spread = position + np.linspace(-0.2, 0.2, len(point[name]))
            axes.plot(spread, sorted(point[name]), "o", markersize=4, alpha=0.8)
        axes.axhline(point["published"], color="0.5", linewidth=1, label="Zoo, one run")
        axes.set(title=point["env"], xticks=[0, 1], xticklabels=["sampled", "mode"])
        axes.set(ylabel="return")
        axes.legend(frameon=False, fontsize=8, loc="center")
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Trains, prints a table, writes zoo.json, .md and .png."""
    flags = parser(__doc__.splitlines()[0]).parse_args()
    folder = results_folder(flags)
    if flags.quick:
        points = [measured("CartPole-v1", 2, 1024)]
    else:
        points = [measured(env, 10, 100_000) for env in PUBLISHED]
    table = markdown(HEADER, map(row, points))
    (folder / "zoo.md").write_text(table)
    write(folder, "zoo", {"quick": flags.quick, "points": points})
    picture(points, folder / "zoo.png")
    print(f"{table}\nwritten to {folder}")


if __name__ == "__main__":
    main()
