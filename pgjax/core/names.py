"""What to say of a name that does not exist: the nearest ones that do. Imports nothing of JAX."""

import difflib
import math
import re
from collections.abc import Iterable, Iterator

_LISTED = 12  # more names than these are not listed in a message
_NEAREST = 5
_CUTOFF = 0.6
# What others call the settings that pgjax has under another name.
_OTHERS_WORDS = {
    "learning_rate": "lr alpha step_size policy_lr actor_lr pi_lr policy_learning_rate "
    "actor_learning_rate",
    "critic.learning_rate": "critic_lr value_lr vf_lr critic_learning_rate vf_learning_rate",
    "discount": "gamma discounting discount_factor discount_rate",
    "gae_lambda": "lam lambda lambda_ trace",
    "epsilon": "clip clip_eps clip_range clip_coef clip_param clip_ratio clipping_epsilon eps_clip",
    "value_clip": "clip_range_vf clip_vloss vf_clip_param",
    "entropy_coefficient": "ent_coef ent_coeff entropy_coef entropy_coeff entropy_cost "
    "entropy_weight",
    "value_coefficient": "vf_coef vf_coeff vf_loss_coeff value_coef value_coeff value_cost "
    "value_loss_coef baseline_cost",
    "max_gradient_norm": "max_grad_norm grad_clip gradient_clip clip_grad_norm",
    "max_kl": "target_kl",
    "target": "kl_target",
    "coefficient": "kl_coef kl_coeff init_kl_coeff",
    "epochs": "n_epochs num_epochs update_epochs num_sgd_iter num_updates_per_batch",
    "minibatches": "num_minibatches n_minibatches num_mini_batch nminibatches",
    "num_envs": "n_envs num_actors num_environments",
    "length": "n_steps num_steps rollout_length rollout_fragment_length unroll_length",
    "horizon": "episode_length max_episode_steps",
    "num_trajectories": "batch_size num_episodes n_episodes",
    "standardize": "norm_adv normalize_advantage normalize_advantages",
    "hidden_sizes": "hidden_dim hidden_layer_sizes fcnet_hiddens net_arch",
    "features": "rnn_hidden_size lstm_hidden_size lstm_cell_size",
    "normalize_observations": "norm_obs normalize_obs",
    "num_seeds": "n_seeds seed_count seeds",
    "total_steps": "total_timesteps num_timesteps n_timesteps timesteps env_steps max_steps "
    "total_frames",
    "num_updates": "iterations num_iterations n_iterations total_steps",
    "stop_at_return": "target_reward reward_threshold target_return",
    "metrics_every": "log_interval log_every log_freq",
    "checkpoint_seconds": "checkpoint_every checkpoint_freq checkpoint_interval save_every "
    "save_freq save_interval",
    "directory": "log_dir logdir output_dir save_dir save_path",
}
_SYNONYMS = {word: ours for ours, words in _OTHERS_WORDS.items() for word in words.split()}


def unknown(what: str, given: object, known: Iterable[object], lister: str = "") -> str:
    """'unknown WHAT; did you mean X? known: …'; of many names the nearest only, and their number.

    Args:
      what: the kind of name and the name, as they are to be shown.
      given: the name.
      known: those that exist.
      lister: what lists all of them, where they are many.

    >>> unknown("field 'lr'", "lr", ["critic.learning_rate", "optimizer.learning_rate"])[:58]
    "unknown field 'lr'; did you mean 'optimizer.learning_rate'"
    """
    return f"unknown {what}; {choices(given, known, lister)}"


def choices(given: object, known: Iterable[object], lister: str = "") -> str:
    """What `unknown` says after the name."""
    known = [str(name) for name in known]
    near = nearest(str(given), known)
    hint = f"did you mean {near[0]!r}? " if near else ""
    if len(known) <= _LISTED:
        return f"{hint}known: {', '.join(known) or 'none'}"
    others = f"near it: {', '.join(near[1:])}; " if near[1:] else ""
    count = f"{lister} lists all {len(known)}" if lister else f"there are {len(known)}"
    return f"{hint}{others}{count}"


def nearest(given: str, known: Iterable[str], cutoff: float = _CUTOFF) -> list[str]:
    """Up to five known names like `given`, the best first; the policy's before a critic's.

    The last part of a dotted path counts as much as the whole, and names that other libraries use
    count as ours, where those are among the known ones. Those less like it than `cutoff`, in
    [0, 1], are left out.
    """
    known = list(known)
    # A synonym's own synonym is farther away.
    words = enumerate(_meant(_plain(given)))
    there = {_last(_plain(name)) for name in known}
    meant = {word: 0.01 * i for i, word in words if i == 0 or _last(word) in there}
    scores = {
        name: max(_likeness(word, _plain(name)) - far for word, far in meant.items())
        for name in known
    }
    # A sort is stable: among equals the order of the known names decides.
    ranked = sorted(scores, key=lambda name: (-scores[name], _plain(name).startswith("critic.")))
    return [name for name in ranked if scores[name] >= cutoff][:_NEAREST]


def _meant(given: str) -> Iterator[str]:
    """The name, and what it is a synonym of, and so on."""
    yield given
    if (ours := _SYNONYMS.get(_last(given))) is not None:
        yield from _meant(given.removesuffix(_last(given)) + ours)


def _likeness(given: str, name: str) -> float:
    """A likeness in [0, 1.1]; naming the right family adds a little."""
    whole = difflib.SequenceMatcher(None, given, name).ratio()
    last = difflib.SequenceMatcher(None, _last(given), _last(name)).ratio()
    family = given.rpartition(".")[0]
    same = bool(family) and family == name.rpartition(".")[0]
    return max(whole, last) + 0.1 * same


def within(low: float | None, high: float | None) -> str:
    """A range in words, inclusive; None, or an infinite bound, is no bound.

    >>> within(1, 8), within(0, None), within(None, 3), within(None, None)
    ('from 1 to 8', 'at least 0', 'at most 3', '')
    """
    bounds = [None if bound in (None, -math.inf, math.inf) else bound for bound in (low, high)]
    if None not in bounds:
        return f"from {low} to {high}"
    words = zip(("at least", "at most"), bounds, strict=True)
    return "".join(f"{word} {bound}" for word, bound in words if bound is not None)


def shortened(paths: Iterable[str]) -> dict[str, str]:
    """Dotted paths in words: the last part where no other path ends alike, else the whole path."""
    paths = list(paths)
    ends = [_last(path) for path in paths]
    return {
        path: (end if ends.count(end) == 1 else path).replace("_", " ").replace(".", " ")
        for path, end in zip(paths, ends, strict=True)
    }


def _plain(name: str) -> str:
    return name.lstrip("-").lower().replace("-", "_")


def _last(path: str) -> str:
    return re.split(r"[./]", path)[-1]
