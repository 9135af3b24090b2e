"""One process of `time_to_solve.py`: one system solves CartPole-v1 with one seed, and is timed.

    python benchmarks/solvers.py sb3_ppo --seed 1

prints a line of JSON. Nothing is imported before it is needed, since imports are measured too: that
is why this is a file of its own, and why each system's imports stand inside its function.
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

# The hyperparameters of RL Baselines3 Zoo, which it marks as tuned, with eight environments. A2C's
# there are Stable-Baselines3's defaults.
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
    """Seconds since the process was started, each of them in exactly one of the parts."""

    def __init__(self, started: float) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self._started = self._last = started
        self._part = "import"  # starting the interpreter included

    def __call__(self, part: str) -> None:
        """From now on it is `part` that takes the time."""
        now = time.time()
        self.seconds[self._part] += now - self._last
        self._part, self._last = part, now

    def elapsed(self) -> float:
        """Since the start of the process."""
        return time.time() - self._started


def main() -> None:
    """Solves, prints the result."""
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
    except Exception as error:  # that a system does not run here is a result, too
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
    """Trains until the evaluation passes, or the budget is spent; the last evaluation's mean.

    `train` goes on for a little and returns the mean return of what it trained on: only where that
    is high enough is there an evaluation. One more when time is up, for the record.
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
    """pgjax with its defaults on all cores, as `pgjax train` uses them; after every update the
    returns of its 64 episodes are looked at."""
    import jax

    from pgjax.core import parallel

    parallel.use_cores()  # before gymnax is imported, which starts JAX's devices
    # By name: `import pgjax` alone puts off the packages underneath until a name is used.
    from pgjax import Config, evaluate, init, make_mesh, update

    clock("compile")
    use_cache(jax, task.cache)
    config = Config(env="CartPole-v1")
    init_key, key = jax.random.split(jax.random.key(task.seed))
    state = init(init_key, config)
    # A first evaluation, of the untrained policy's short episodes: next to nothing but compiling.
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
        key, now = jax.random.split(key)
        return float(evaluate(now, parallel.local(state), config, EPISODES).mean)

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
        key, now = jax.random.split(key)
        return float(evaluation(state, now))

    return until_solved(task, clock, train, evaluate), int(state.global_step)


def torch_reinforce(task: argparse.Namespace, clock: Clock) -> tuple[float, int]:
    """One episode an update; looks at its returns after every one."""
    import torch
    from torch_reinforce import Reinforce

    clock("other")
    torch.set_num_threads(1)  # faster than more of them, for networks so small
    agent = Reinforce(task.seed)
    tried = 0  # episodes before the latest evaluation: the next one wants fresh ones

    def train() -> float:
        agent.update()
        fresh = agent.returns[tried:][-WINDOW:]
        return sum(fresh) / WINDOW  # below the threshold while the window is not full

    def evaluate() -> float:
        nonlocal tried
        tried = len(agent.returns)
        return agent.evaluate(EPISODES)

    return until_solved(task, clock, train, evaluate), agent.steps


def sb3_a2c(task: argparse.Namespace, clock: Clock) -> tuple[float, int]:
    """Stable-Baselines3's A2C."""
    from stable_baselines3 import A2C

    # More steps than fit into any budget: it ends in the callback.
    return stable_baselines(task, clock, A2C, {}, steps=10**9)


def sb3_ppo(task: argparse.Namespace, clock: Clock) -> tuple[float, int]:
    """Stable-Baselines3's PPO; without an end to its schedules it would not be the tuned one."""
    from stable_baselines3 import PPO

    schedules = {"learning_rate": lambda left: left * 1e-3, "clip_range": lambda left: left * 0.2}
    return stable_baselines(task, clock, PPO, PPO_BATCH | schedules, steps=PPO_STEPS)


def stable_baselines(
    task: argparse.Namespace, clock: Clock, algorithm: Any, options: dict[str, Any], steps: int
) -> tuple[float, int]:
    """Trains in eight environments; looks at the returns of the last episodes after every step."""
    import torch
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.evaluation import evaluate_policy

    clock("other")
    torch.set_num_threads(1)  # faster than more of them, for networks so small
    envs = make_vec_env("CartPole-v1", n_envs=8, seed=task.seed)
    others = make_vec_env("CartPole-v1", n_envs=32, seed=10**6)
    model = algorithm(
        "MlpPolicy", envs, seed=task.seed, device="cpu", stats_window_size=WINDOW, **options
    )

    def evaluate() -> float:
        clock("evaluate")
        mean, _ = evaluate_policy(model, others, n_eval_episodes=EPISODES, deterministic=False)
        clock("run")
        return float(mean)

    class Stop(BaseCallback):
        mean = 0.0

        def _on_step(self) -> bool:
            recent = [episode["r"] for episode in model.ep_info_buffer]
            if sum(recent) / WINDOW >= task.threshold:  # not while the window is not full
                self.mean = evaluate()
                model.ep_info_buffer.clear()  # the next evaluation wants fresh episodes
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
