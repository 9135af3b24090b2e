"""Plain REINFORCE in PyTorch: an episode, a gradient step, the next episode.

The weights are the rewards to go, discounted by 0.99 and standardised within the episode: the usual
recipe (the example in PyTorch's own repository), and with one episode at a time there is no batch
to take a baseline from. The network is that of pgjax's default config.
"""

import gymnasium
import torch

DISCOUNT = 0.99
LEARNING_RATE = 3e-3


class Reinforce:
    """Policy, optimizer and environment; `update` trains on one episode.

    Attributes:
      returns: the return of every training episode so far.
      steps: environment steps taken for training.
    """

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        self.env = gymnasium.make("CartPole-v1")
        self.env.reset(seed=seed)
        self.logits = torch.nn.Sequential(
            torch.nn.Linear(4, 64), torch.nn.Tanh(),
            torch.nn.Linear(64, 64), torch.nn.Tanh(),
            torch.nn.Linear(64, 2),
        )  # fmt: skip
        self.optimizer = torch.optim.Adam(self.logits.parameters(), LEARNING_RATE)
        self.returns: list[float] = []
        self.steps = 0

    def update(self) -> None:
        """Plays one episode, and makes one step of gradient ascent."""
        observations, actions, rewards = self._episode()
        weights = standardised(rewards_to_go(rewards))
        # One forward pass over the episode: far cheaper than keeping a graph for every step.
        log_probs = torch.log_softmax(self.logits(observations), -1)
        chosen = log_probs.gather(1, actions[:, None])[:, 0]
        self.optimizer.zero_grad()
        (-torch.sum(chosen * weights)).backward()
        self.optimizer.step()
        self.returns.append(sum(rewards))
        self.steps += len(rewards)

    def evaluate(self, num_episodes: int) -> float:
        """Mean return of fresh episodes with sampled actions, all side by side."""
        envs = [gymnasium.make("CartPole-v1") for _ in range(num_episodes)]
        # Training seeds its environment once, with a smaller seed.
        running = [(env, env.reset(seed=10**6 + i)[0]) for i, env in enumerate(envs)]
        total = 0.0
        while running:
            actions = self._sample(torch.stack([torch.from_numpy(obs) for _, obs in running]))
            steps = [(env, env.step(a)) for (env, _), a in zip(running, actions, strict=True)]
            total += sum(reward for _, (_, reward, *_) in steps)
            running = [(env, step[0]) for env, step in steps if not (step[2] or step[3])]
        return total / num_episodes

    def _episode(self) -> tuple[torch.Tensor, torch.Tensor, list[float]]:
        observations, actions, rewards = [], [], []
        obs, over = self.env.reset()[0], False
        while not over:
            observations.append(torch.from_numpy(obs))
            actions += self._sample(observations[-1][None])
            obs, reward, terminated, truncated, _ = self.env.step(actions[-1])
            rewards.append(float(reward))
            over = terminated or truncated
        return torch.stack(observations), torch.tensor(actions), rewards

    @torch.no_grad()
    def _sample(self, observations: torch.Tensor) -> list[int]:
        probabilities = torch.softmax(self.logits(observations), -1)
        return torch.multinomial(probabilities, 1)[:, 0].tolist()


def rewards_to_go(rewards: list[float]) -> torch.Tensor:
    """G_t = r_t + γ G_{t+1}."""
    returns, total = [], 0.0
    for reward in reversed(rewards):
        total = reward + DISCOUNT * total
        returns.append(total)
    return torch.tensor(returns[::-1])


def standardised(values: torch.Tensor) -> torch.Tensor:
    """The values, shifted and scaled to mean 0 and standard deviation 1."""
    return (values - values.mean()) / (values.std() + 1e-8)
