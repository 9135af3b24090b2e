"""One process of `host.py`: one system trains on one MuJoCo task of Gymnasium with one seed.

    python benchmarks/host_trainers.py sb3 --env HalfCheetah-v5 --seed 1

prints a line of JSON. Each system's imports are inside its function, and only training is timed.
"""

import argparse
import json
import os
import time
from typing import Any

EVALUATION_SEED = 10**6
# RL Baselines3 Zoo's hyperparameters/ppo.yml for the same tasks, version 3 there; each task has
# `normalize: true` as well.
_TUNED = {"n_steps": 512, "log_std_init": -2.0}
ZOO: dict[str, dict[str, Any]] = {
    "HalfCheetah-v5": {
        **_TUNED,
        "batch_size": 64,
        "gamma": 0.98,
        "learning_rate": 2.0633e-05,
        "ent_coef": 0.000401762,
        "clip_range": 0.1,
        "n_epochs": 20,
        "gae_lambda": 0.92,
        "max_grad_norm": 0.8,
        "vf_coef": 0.58096,
    },
    "Hopper-v5": {
        **_TUNED,
        "batch_size": 32,
        "gamma": 0.999,
        "learning_rate": 9.80828e-05,
        "ent_coef": 0.00229519,
        "clip_range": 0.2,
        "n_epochs": 5,
        "gae_lambda": 0.99,
        "max_grad_norm": 0.7,
        "vf_coef": 0.835671,
    },
    "Swimmer-v5": {"gamma": 0.9999},
}


def main() -> None:
    """Trains, evaluates and prints the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("system", choices=SYSTEMS)
    parser.add_argument("--env", choices=ZOO, default="HalfCheetah-v5")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=10**6)
    parser.add_argument("--episodes", type=int, default=20, help="of each evaluation")
    task = parser.parse_args()
    print(json.dumps({"seed": task.seed, **SYSTEMS[task.system](task)}))


def pgjax(task: argparse.Namespace) -> dict[str, Any]:
    """pgjax's preset, its environments in two other processes."""
    import jax

    from pgjax import evaluate, init, preset, update
    from pgjax.training.presets import with_total_steps

    env = f"gymnasium/{task.env}"
    config = with_total_steps(preset(env).replace(env=f"{env}?processes=2"), task.steps)
    key, *evaluation_keys = jax.random.split(jax.random.key(task.seed), 3)
    state = jax.jit(lambda key: init(key, config))(key)
    step = jax.jit(lambda state: update(state, config), donate_argnums=0).lower(state).compile()
    start = time.perf_counter()
    for _ in range(config.num_updates):
        state, _ = step(state)
    jax.block_until_ready(state)
    seconds = time.perf_counter() - start
    sampled, mode = (
        float(evaluate(key, state, config, task.episodes, deterministic=mode).mean)
        for key, mode in zip(evaluation_keys, (False, True), strict=True)
    )
    return {"steps": int(state.env_steps), "seconds": seconds, "return": sampled, "mode": mode}


def sb3(task: argparse.Namespace) -> dict[str, Any]:
    """Stable-Baselines3's PPO with RL Baselines3 Zoo's settings, on one core."""
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.vec_env import VecNormalize

    torch.set_num_threads(1)  # faster than two, for networks and batches so small
    options = dict(ZOO[task.env])
    policy: dict[str, Any] = {}
    if "log_std_init" in options:
        policy = {
            "log_std_init": options.pop("log_std_init"),
            "ortho_init": False,
            "activation_fn": torch.nn.ReLU,
            "net_arch": {"pi": [256, 256], "vf": [256, 256]},
        }
    envs = VecNormalize(make_vec_env(task.env, seed=task.seed), gamma=options["gamma"])
    model = PPO("MlpPolicy", envs, seed=task.seed, device="cpu", policy_kwargs=policy, **options)
    start = time.perf_counter()
    model.learn(task.steps)
    seconds = time.perf_counter() - start
    fresh = VecNormalize(
        make_vec_env(task.env, n_envs=10, seed=EVALUATION_SEED + task.seed),
        training=False,
        norm_reward=False,
    )
    fresh.obs_rms = envs.obs_rms
    sampled, mode = (
        float(evaluate_policy(model, fresh, task.episodes, deterministic=mode)[0])
        for mode in (False, True)
    )
    steps = model.num_timesteps
    return {"steps": steps, "seconds": seconds, "return": sampled, "mode": mode}


SYSTEMS = {function.__name__: function for function in (pgjax, sb3)}

if __name__ == "__main__":
    main()
