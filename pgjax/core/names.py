"""Messages for a name that does not exist: the nearest ones that do. Does not import JAX."""

import difflib
import math
import re
from collections.abc import Iterable, Iterator

_LISTED = 12  # more names than these are not listed in a message
_NEAREST = 5
_CUTOFF = 0.6
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
# pgjax's settings, and their names in other libraries.
_NAMES_ELSEWHERE = {
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
_SYNONYMS = {word: name for name, words in _NAMES_ELSEWHERE.items() for word in words.split()}


def unknown(subject: str, name: object, names: Iterable[object], lister: str = "") -> str:
    """The message 'unknown SUBJECT; did you mean X? known: …'.

    Of more than twelve names it lists only the nearest, and says how many there are.

    Args:
      subject: the sort of name and the name, as the message shows them.
      name: the name that does not exist.
      names: those that exist.
      lister: the command or function that lists all of them, where they are many.

    >>> unknown("field 'lr'", "lr", ["critic.learning_rate", "optimizer.learning_rate"])[:58]
    "unknown field 'lr'; did you mean 'optimizer.learning_rate'"
    """
    return f"unknown {subject}; {choices(name, names, lister)}"


def choices(name: object, names: Iterable[object], lister: str = "") -> str:
    """The end of the message of `unknown`: 'did you mean X? known: …'."""
    names = [str(known) for known in names]
    near = nearest(str(getattr(name, "__name__", name)), names)
    hint = f"did you mean {near[0]!r}? " if near else ""
    if len(names) <= _LISTED:
        return f"{hint}known: {', '.join(names) or 'none'}"
    next_best = f"near it: {', '.join(near[1:])}; " if near[1:] else ""
    count = f"{lister} lists all {len(names)}" if lister else f"there are {len(names)}"
    return f"{hint}{next_best}{count}"


def shown(value: object) -> str:
    """The `repr` of what was given, for a message: one line, functions by name, no address.

    >>> shown("tanh"), shown(len), shown([object()])
    ("'tanh'", '<function len>', '[<object object>]')
    """
    name = getattr(value, "__qualname__", None)
    if isinstance(name, str) and not isinstance(value, type):
        return f"<function {name}>"
    return re.sub(r"\s*\n\s*", " ", without_addresses(repr(value)))


def told(error: BaseException) -> str:
    """An exception's kind and text in one line.

    >>> told(SystemExit(3)), told(KeyError("valve")), told(OSError())
    ('SystemExit: 3', "KeyError: 'valve'", 'OSError')
    """
    text = " ".join(str(error).split())
    return type(error).__name__ + (f": {text}" if text else "")


def without_addresses(text: str) -> str:
    """A text without the memory addresses that Python writes in `<function f at 0x7f…>`."""
    return _ADDRESS.sub("", text)


def nearest(name: str, names: Iterable[str], cutoff: float = _CUTOFF) -> list[str]:
    """Up to five of the names, the most like `name` first; the policy's before a critic's.

    The last part of a dotted path counts as much as the path. A setting's name in another library
    counts as pgjax's, if that is among the names. Names whose likeness is below `cutoff`, in
    [0, 1], are left out.
    """
    names = list(names)
    ends = {_last(_plain(known)) for known in names}
    # A synonym's own synonym is farther away.
    distances = {
        word: 0.01 * depth
        for depth, word in enumerate(_synonyms(_plain(name)))
        if depth == 0 or _last(word) in ends
    }
    scores = {
        known: max(_likeness(word, _plain(known)) - far for word, far in distances.items())
        for known in names
    }
    # A sort is stable: among equals the order of the names decides.
    ranked = sorted(scores, key=lambda known: (-scores[known], _plain(known).startswith("critic.")))
    return [known for known in ranked if scores[known] >= cutoff][:_NEAREST]


def _synonyms(name: str) -> Iterator[str]:
    """The name, pgjax's name for the same setting, and so on."""
    yield name
    if (setting := _SYNONYMS.get(_last(name))) is not None:
        yield from _synonyms(name.removesuffix(_last(name)) + setting)


def _likeness(name: str, known: str) -> float:
    """A likeness in [0, 1.1]; naming the right family adds a little."""
    path_ratio = difflib.SequenceMatcher(None, name, known).ratio()
    last_ratio = difflib.SequenceMatcher(None, _last(name), _last(known)).ratio()
    family = name.rpartition(".")[0]
    same_family = bool(family) and family == known.rpartition(".")[0]
    return max(path_ratio, last_ratio) + 0.1 * same_family


def within(low: float | None, high: float | None) -> str:
    """An inclusive range in words; None or an infinite number means no bound.

    >>> within(1, 8), within(0, None), within(None, 3), within(None, None)
    ('from 1 to 8', 'at least 0', 'at most 3', '')
    """
    bounds = [None if bound in (None, -math.inf, math.inf) else bound for bound in (low, high)]
    if None not in bounds:
        return f"from {low} to {high}"
    words = zip(("at least", "at most"), bounds, strict=True)
    return "".join(f"{word} {bound}" for word, bound in words if bound is not None)


def shortened(paths: Iterable[str]) -> dict[str, str]:
    """Dotted paths in words: the last part, or the full path where another one ends alike."""
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
