"""What to say of a name that does not exist: the nearest ones that do. Imports nothing of JAX."""

import difflib
import re
from collections.abc import Iterable

_LISTED = 12  # more names than these are not listed in a message
_NEAREST = 5
_CUTOFF = 0.6
# What others call the settings that pgjax has under another name.
_SYNONYMS = {
    "lr": "learning_rate",
    "alpha": "learning_rate",
    "gamma": "discount",
    "lam": "gae_lambda",
    "lambda": "gae_lambda",
    "trace": "gae_lambda",
    "clip": "epsilon",
    "clip_eps": "epsilon",
    "clip_range": "epsilon",
    "clip_coef": "epsilon",
    "ent_coef": "entropy_coefficient",
    "entropy_coef": "entropy_coefficient",
    "max_grad_norm": "max_gradient_norm",
    "n_epochs": "epochs",
    "num_epochs": "epochs",
    "update_epochs": "epochs",
    "num_minibatches": "minibatches",
    "n_envs": "num_envs",
    "n_steps": "length",
    "num_steps": "length",
    "batch_size": "num_trajectories",
    "hidden_dim": "hidden_sizes",
    "net_arch": "hidden_sizes",
    "norm_obs": "normalize_observations",
    "iterations": "num_updates",
    "total_timesteps": "total_steps",
    "timesteps": "total_steps",
    "env_steps": "total_steps",
    "total_steps": "num_updates",
}


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
    known = [str(name) for name in known]
    near = nearest(str(given), known)
    hint = f"did you mean {near[0]!r}? " if near else ""
    if len(known) <= _LISTED:
        return f"unknown {what}; {hint}known: {', '.join(known)}"
    others = f"near it: {', '.join(near[1:])}; " if near[1:] else ""
    count = f"{lister} lists all {len(known)}" if lister else f"there are {len(known)}"
    return f"unknown {what}; {hint}{others}{count}"


def nearest(given: str, known: Iterable[str]) -> list[str]:
    """At most five of the known names like `given`, the best first; the policy's before a critic's.

    The last part of a dotted path counts as much as the whole, and names that other libraries use
    count as ours.
    """
    meant = [_plain(given)]
    while (word := _SYNONYMS.get(_last(meant[-1]))) is not None:
        meant.append(meant[-1].removesuffix(_last(meant[-1])) + word)
    # A synonym's own synonym is farther away.
    scores = {
        name: max(_likeness(word, _plain(name)) - 0.01 * i for i, word in enumerate(meant))
        for name in known
    }
    # A sort is stable: among equals the order of the known names decides.
    ranked = sorted(scores, key=lambda name: (-scores[name], _plain(name).startswith("critic.")))
    return [name for name in ranked if scores[name] >= _CUTOFF][:_NEAREST]


def _likeness(given: str, name: str) -> float:
    """In [0, 1.1]; a family that was named and is the right one counts a little."""
    whole = difflib.SequenceMatcher(None, given, name).ratio()
    last = difflib.SequenceMatcher(None, _last(given), _last(name)).ratio()
    family = given.rpartition(".")[0]
    same = bool(family) and family == name.rpartition(".")[0]
    return max(whole, last) + 0.1 * same


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
