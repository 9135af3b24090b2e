"""One process of `time_to_solve.py`: one system solves CartPole-v1 with one seed, and is timed.

    python benchmarks/solvers.py sb3_ppo --seed 1

prints a line of JSON. Imports are measured too: so this is a file of its own, and each system's
imports are inside its function.
"""

import argparse
import json
import time
import traceback
from collections.abc import Callable
from typing import Any

PARTS = ("import", "compile", "run", "evaluate", "other")
EPISODES = 128  # of one evaluation
WINDOW = 20  # training episodes whose mean return calls for an evaluation

# RL Baselines3 Zoo's hyperparameters for eight environments, which it marks as tuned. Its A2C has
# Stable-Baselines3's defaults.
PPO_BATCH = {"n_steps": 32, "batch_size": 256, "n_epochs": 20, "gae_lambda": 0.8, "gamma": 0.98}
PPO_STEPS = 100_000  # the linear schedules end there
# rejax's configs/gymnax/cartpole.yaml; evaluation every fifth iteration, see `rejax_ppo`.
REJAX_PPO = {
    "agent_kwargs": {"activation": "tanh"},
    "num_envs": 5,
    "num_steps": 100,
    "num_epochs": 5,
    "num_minibatches": 5,
    "learning_rate": 0.00075,
    "max_grad_norm": 0.5,
    "gamma": 0.99,
    "gae_lambda": 0.95,
    "clip_eps": 0.2,
    "ent_coef": 0.01,
    "vf_coef": 0.5,
}


class Clock:
    """Seconds since the process was started, each counted in exactly one of the parts."""

    def __init__(self, started: float) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self._started = self._last = started
        self._part = "import"  # starting the interpreter included

    def __call__(self, part: str) -> None:
        """Counts the time from now on as `part`."""
        current = time.time()
        self.seconds[self._part] += current - self._last
        self._part, self._last = part, current

    def elapsed(self) -> float:
        """Seconds since the start of the process."""
        return time.time() - self._started


def main() -> None:
    """Solves, and prints the result."""
    started = time.time()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("system", choices=SYSTEMS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threshold", type=float, default=475.0)
    parser.add_argument("--budget", type=float, default=120.0, help="seconds from process start")
    parser.add_argument("--cache", help="folder of JAX's persistent compilation cache")
    parser.add_argument("--started", type=float, default=started, help="time.time() of the start")
    task = parser.parse_args()
    clock = Clock(task.started)
    try:
        mean, steps = SYSTEMS[task.system](task, clock)
    except Exception as error:  # a system that does not run here is a result, too
        traceback.print_exc()
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}))
        return
    clock("other")
    result = {"seed": task.seed, "reached": mean >= task.threshold, "return": mean}
    result |= {"steps": steps, "seconds": sum(clock.seconds.values()), **clock.seconds}
    print(json.dumps(result))


def until_solved(
    task: argparse.Namespace,
    clock: Clock,
    train: Callable[[], float],
    evaluate: Callable[[], float],
) -> float:
    """Trains until an evaluation passes, or the budget is spent.

    Args:
      task: threshold and budget.
      clock: counts the seconds.
      train: trains a little, and returns the mean return of its training episodes. Only a mean
        that reaches the threshold is followed by an evaluation.
      evaluate: the mean return of fresh episodes; called once more when the budget is spent.

    Returns:
      The last evaluation's mean.
    """
    while clock.elapsed() < task.budget:
        clock("run")
        if train() >= task.threshold:
            clock("evaluate")
            mean = evaluate()
            if mean >= task.threshold:
                return mean
    clock("evaluate")
    return evaluate()


def pgjax(task: argparse.Namespace, clock: Clock) -> tuple[float, int]:
    """pgjax with its defaults on all cores, as `pgjax train` uses them. The returns of an update's
    64 episodes decide whether an evaluation follows."""
    import jax

    from pgjax.core import parallel

    parallel.use_cores()  # before gymnax is imported, which starts JAX's devices
    # By name: `import pgjax` alone imports nothing until a name is used.
    from pgjax import Config, evaluate, init, make_mesh, update

    clock("compile")
    use_cache(jax, task.cache)
    config = Config(env="CartPole-v1")
    init_key, key = jax.random.split(jax.random.key(task.seed))
    state = init(init_key, config)
    # An evaluation of the untrained policy, whose episodes are short: nearly all of it compiles.
    evaluate(key, state, config, EPISODES).mean.block_until_ready()
    mesh = make_mesh(parallel.fitting(config.sampler.num_trajectories))
    state = parallel.replicated(state, mesh)
    compiled = jax.jit(lambda state: update(state, config, mesh)).lower(state).compile()

    def train() -> float:
        nonlocal state
        state, metrics = compiled(state)
        return float(metrics.episode_return)

    def mean_return() -> float:
        nonlocal key
        key, evaluation_key = jax.random.split(key)
        return float(evaluate(evaluation_key, parallel.local(state), config, EPISODES).mean)

    return until_solved(task, clock, train, mean_return), int(state.env_steps)


def use_cache(jax: Any, folder: str | None) -> None:
    """Lets JAX keep every compiled program in `folder`, however small or quickly compiled."""
    if folder is not None:
        jax.config.update("jax_compilation_cache_dir", folder)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def rejax_ppo(task: argparse.Namespace, clock: Clock) -> tuple[float, int]:
    """rejax's PPO. It keeps no returns of its training episodes, so every block is evaluated."""
    import jax
    import rejax

    clock("compile")
    algorithm = rejax.PPO.create(env="CartPole-v1", **REJAX_PPO)
    init_key, key = jax.random.split(jax.random.key(task.seed))
    state = jax.jit(algorithm.init_state)(init_key)

    def iterations(state):
        return jax.lax.fori_loop(0, 5, lambda _, s: algorithm.train_iteration(s), state)

    def mean_return(state, key):  # 128 episodes, sampled actions
        return algorithm.eval_callback(algorithm, state, key)[1].mean()

    block = jax.jit(iterations).lower(state).compile()
    evaluation = jax.jit(mean_return).lower(state, key).compile()

    def train() -> float:
        nonlocal state
        state = jax.block_until_ready(block(state))
        return float("inf")

    def evaluate() -> float:
        nonlocal key
        key, evaluation_key = jax.random.split(key)
        return float(evaluation(state, evaluation_key))

    return until_solved(task, clock, train, evaluate), int(state.global_step)


def torch_reinforce(task: argparse.Namespace, clock: Clock) -> tuple[float, int]:
    """PyTorch's REINFORCE of one episode an update; the last 20 decide about an evaluation."""
    import torch
    from torch_reinforce import Reinforce

    clock("other")
    torch.set_num_threads(1)  # faster than several, for networks so small
    agent = Reinforce(task.seed)
    evaluated = 0  # training episodes before the last evaluation, which no longer count

    def train() -> float:
        agent.update()
        recent = agent.returns[evaluated:][-WINDOW:]
        return sum(recent) / WINDOW  # below the threshold while the window is not full

    def evaluate() -> float:
        nonlocal evaluated
        evaluated = len(agent.returns)
        return agent.evaluate(EPISODES)

    return until_solved(task, clock, train, evaluate), agent.steps


def sb3_a2c(task: argparse.Namespace, clock: Clock) -> tuple[float, int]:
    """Stable-Baselines3's A2C."""
    from stable_baselines3 import A2C

    # More steps than fit into any budget: the callback ends it.
    return stable_baselines(task, clock, A2C, {}, steps=10**9)


def sb3_ppo(task: argparse.Namespace, clock: Clock) -> tuple[float, int]:
    """Stable-Baselines3's PPO, as long as its tuned schedules."""
    from stable_baselines3 import PPO

    schedules = {
        "learning_rate": lambda remaining: remaining * 1e-3,
        "clip_range": lambda remaining: remaining * 0.2,
    }
    return stable_baselines(task, clock, PPO, PPO_BATCH | schedules, steps=PPO_STEPS)


def stable_baselines(
    task: argparse.Namespace, clock: Clock, algorithm: Any, options: dict[str, Any], steps: int
) -> tuple[float, int]:
    """Trains in eight environments. After every step the last 20 episodes decide whether an
    evaluation follows."""
    import torch
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.evaluation import evaluate_policy

    clock("other")
    torch.set_num_threads(1)  # faster than several, for networks so small
    envs = make_vec_env("CartPole-v1", n_envs=8, seed=task.seed)
    evaluation_envs = make_vec_env("CartPole-v1", n_envs=32, seed=10**6)
    model = algorithm(
        "MlpPolicy", envs, seed=task.seed, device="cpu", stats_window_size=WINDOW, **options
    )

    def evaluate() -> float:
        clock("evaluate")
        mean, _ = evaluate_policy(
            model, evaluation_envs, n_eval_episodes=EPISODES, deterministic=False
        )
        clock("run")
        return float(mean)

    class Stop(BaseCallback):
        mean = 0.0

        def _on_step(self) -> bool:
            recent = [episode["r"] for episode in model.ep_info_buffer]
            if sum(recent) / WINDOW >= task.threshold:  # not while the window is not full
                self.mean = evaluate()
                model.ep_info_buffer.clear()  # these episodes no longer count
            return self.mean < task.threshold and clock.elapsed() < task.budget

    stop = Stop()
    clock("run")
    model.learn(steps, callback=stop)
    mean = stop.mean if stop.mean >= task.threshold else evaluate()
    return mean, model.num_timesteps


SYSTEMS = {
    function.__name__: function
    for function in (pgjax, sb3_ppo, sb3_a2c, torch_reinforce, rejax_ppo)
}

if __name__ == "__main__":
    main()
