"""The numbers of every algorithm, sampler and head for one seed, which a change must keep.

    python benchmarks/golden.py           # compares with results/golden.json
    python benchmarks/golden.py --write   # writes it anew

Twenty updates each. On the machine, with the versions that wrote the file, a change that only moves
code keeps every bit; sums in another order differ in the last digits first, and one action sampled
differently changes all that follows.
"""

import json
import os
from importlib.metadata import version

# Compiles in a third of the time; the comparison is of the code, not of the compiler. jaxlib 0.11
# does not know the flag.
if version("jaxlib").startswith(("0.7.", "0.8.", "0.9.", "0.10.")):
    os.environ["XLA_FLAGS"] = "--xla_cpu_use_fusion_emitters=false"

import jax
import numpy as np
from common import parser, results_folder, write

import pgjax
from pgjax.runs import config_json

UPDATES = 20
ALGORITHMS = {
    "reinforce": (pgjax.reinforce, {}),
    "action_value": (pgjax.reinforce, {"estimator": pgjax.ActionValue()}),
    "actor_critic": (pgjax.actor_critic, {}),
    "ppo": (pgjax.ppo, {}),
    "natural_policy_gradient": (pgjax.natural_policy_gradient, {}),
}
SAMPLERS = {
    "Episodes": pgjax.Episodes(num_trajectories=8, horizon=9),
    "Segments": pgjax.Segments(num_envs=8, length=20),
}
HEADS = {
    "categorical": ("Catch-bsuite", {}),
    "recurrent": ("Catch-bsuite", {"network": pgjax.Recurrent(pgjax.MLP((8,)), 8)}),
    "normal": ("Pendulum-v1", {"distribution": "normal", "normalize_observations": True}),
    "tanh_normal": ("Pendulum-v1", {}),
    "beta": ("Pendulum-v1", {"distribution": "beta"}),
}


def cases() -> dict[str, pgjax.Config]:
    """Every combination of algorithm, sampler and head, by name."""
    configs = {}
    for algorithm, (make, changes) in ALGORITHMS.items():
        for sampler_name, sampler in SAMPLERS.items():
            if algorithm == "reinforce" and sampler_name == "Segments":
                continue  # its estimator needs whole episodes
            for head, (env, differences) in HEADS.items():
                fields = {**changes, **differences, "sampler": sampler, "num_updates": UPDATES}
                configs[f"{algorithm}/{sampler_name}/{head}"] = make(env, **fields)
    return configs


def measured(config: pgjax.Config) -> dict[str, list[float | None]]:
    """Each metric, [UPDATES], in the fewest digits of the same float32; None: NaN."""
    _, metrics = pgjax.train(jax.random.key(0), config)
    columns = {name: np.asarray(x) for name, x in config_json.columns(metrics).items()}
    return {
        name: [None if np.isnan(x) else float(str(x)) for x in column.astype(np.float32)]
        for name, column in columns.items()
    }


def compared(expected: dict[str, list[float]], given: dict[str, list[float]]) -> str:
    """ "equal", or the relative differences in the first update that has one, and the largest.

    A difference is relative to its metric's largest number.
    """
    if set(expected) != set(given):
        return f"other metrics: {sorted(set(expected) ^ set(given))}"
    gaps = np.zeros(UPDATES)
    for name in expected:
        old, new = (np.array(metrics[name], float) for metrics in (expected, given))
        same = (old == new) | (np.isnan(old) & np.isnan(new))
        largest = max(np.nanmax(abs(old), initial=0.0), 1e-30)
        gaps = np.maximum(gaps, np.where(same, 0.0, np.nan_to_num(abs(old - new) / largest, nan=9)))
    if not gaps.any():
        return "equal"
    first = int(np.flatnonzero(gaps)[0])
    return f"{gaps[first]:.1e} in update {first + 1}, the first that differs; then {gaps.max():.1e}"


def main() -> None:
    """Prints a line for each case, and how many differ."""
    flags = parser(__doc__)
    flags.add_argument("--write", action="store_true", help="keep these numbers as the right ones")
    flags.add_argument("--only", default="", help="cases whose name contains this")
    options = flags.parse_args()
    chosen = {name: config for name, config in cases().items() if options.only in name}
    if options.quick:
        chosen = dict([next(iter(chosen.items()))])
    if options.write or options.quick:
        metrics = {name: measured(config) for name, config in chosen.items()}
        write(results_folder(options), "golden", {"updates": UPDATES, "cases": metrics})
        return
    expected = json.loads((results_folder(options) / "golden.json").read_text())["cases"]
    differ = 0
    for name, config in chosen.items():
        verdict = compared(expected[name], measured(config))
        differ += verdict != "equal"
        print(f"{name}: {verdict}", flush=True)
    print(f"{differ} of {len(chosen)} differ")


if __name__ == "__main__":
    main()
