"""Training processes killed at random times, again and again: lost updates, and the final bits.

`pgjax train` is killed by SIGKILL at a random time after it has made its folder, then
`pgjax resume`, and so on, with a checkpoint after every block of updates, so that many kills hit
the writing of one. After each kill the folder must load, with no update fewer than before. The
last process is not killed; the run must end with the bits of one that was never killed.

    python benchmarks/kills.py
"""

import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from common import parser, results_folder, write

import pgjax
from pgjax.runs import checkpoints, folders

NUM_KILLS = 100
UPDATES = 20_000
FLAGS = ("--sampler.num-trajectories", "8", "--network.hidden-sizes", "8")
LOOP = ("--checkpoint-seconds", "0", "--eval-episodes", "1", "--devices", "1")
LONGEST = 1.5  # seconds from a process's first sign of life to its end


def main() -> None:
    """Kills, checks, prints a line each, writes kills.json."""
    flags = parser(__doc__.splitlines()[0]).parse_args()
    folder = results_folder(flags)
    number = 6 if flags.quick else NUM_KILLS
    with tempfile.TemporaryDirectory() as root:
        survived, updates = killed(Path(root), number)
        same = ends_the_same(Path(root))
    print(f"{survived} of {number} kills survived; at the end the same bits: {same}")
    result = {"quick": flags.quick, "kills": number, "survived": survived, "same_bits": same}
    write(folder, "kills", {**result, "updates_after_each_kill": updates})
    sys.exit(0 if survived == number and same else 1)


def killed(root: Path, number: int) -> tuple[int, list[int]]:
    """The number of kills that left a folder which loads, and the updates in it after each."""
    run, generator = root / "killed", random.Random(0)
    survived, updates = 0, [0]
    while len(updates) <= number:
        process = start(run, len(updates))
        wait_for_life(process, run)
        time.sleep(generator.uniform(0.0, LONGEST))
        process.send_signal(signal.SIGKILL)
        process.wait()
        try:
            state, _ = pgjax.load(run)
            survived += int(state.num_updates) >= updates[-1]
            updates.append(int(state.num_updates))
        except ValueError as error:
            print(f"kill {len(updates)}: {error}", flush=True)
            updates.append(updates[-1])
        print(f"kill {len(updates) - 1}: {updates[-1]} updates on disk", flush=True)
    return survived, updates[1:]


def start(run: Path, number: int) -> subprocess.Popen:
    """A process that trains or resumes, with more updates to make than it can before its kill."""
    command = [sys.executable, "-m", "pgjax.cli"]
    total = ("--num-updates", str(UPDATES * number))
    if run.exists():
        command += ["resume", str(run), *total, *LOOP]
    else:
        command += ["train", "Catch-bsuite", "--directory", str(run), *total, *FLAGS, *LOOP]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_for_life(process: subprocess.Popen, run: Path) -> None:
    """Waits until the process has written something: before that it has nothing to lose."""
    before = contents(run)
    deadline = time.monotonic() + 120
    while contents(run) == before and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)


def contents(run: Path) -> tuple:
    """Times of writing and sizes of a run folder's files."""
    names = ("metrics.csv", "checkpoint/pgjax.json")
    files = [run / name for name in names]
    return tuple((f.stat().st_mtime_ns, f.stat().st_size) for f in files if f.exists())


def ends_the_same(root: Path) -> bool:
    """Whether the run, after 50 more updates, equals one that was never killed."""
    state, config = pgjax.load(root / "killed")
    total = int(state.num_updates) + 50
    pgjax.resume(root / "killed", num_updates=total)
    pgjax.run(config.replace(num_updates=total), 0, root / "whole")
    states, metrics = [], []
    for path in (root / "killed", root / "whole"):
        states.append(checkpoints.to_arrays(pgjax.load(path)[0]))
        metrics.append(folders.read(path).metrics)
    same = [np.array_equal(states[0][name], states[1][name]) for name in states[1]]
    names = metrics[1].keys() - {"seconds"}
    equal = {"equal_nan": True}
    return all(same) and all(np.array_equal(metrics[0][n], metrics[1][n], **equal) for n in names)


if __name__ == "__main__":
    main()
