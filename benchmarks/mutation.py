"""Mutants of the numerical core: the share of small changes to its code that the tests notice.

cosmic-ray makes them in a copy of the checkout, one at a time: another operator, a constant one
higher or lower, `not` added, a decorator gone. After each, tests of that module run in a process of
their own, until the first that fails: it has killed the mutant. A mutant "timed out" if its tests
were stopped after ten minutes. Before the first mutant and after the last the same tests must pass.

Left out are changes of type hints, on which no result depends, and replacements of an operator
beyond those in `KEPT`. MUTANTS.md lists the mutants that survive, and why.

    pip install -e '.[test,mutation]'
    python benchmarks/mutation.py --work FOLDER --modules returns baselines

With `--work`, killed mutants are not run again, unless the module changes; survivors are, if their
tests have changed. Several processes may run at once, each on its own modules.
"""

import contextlib
import hashlib
import json
import shlex
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from common import markdown, parser, results_folder, significant, write

ROOT = Path(__file__).resolve().parents[1]
TIMEOUT = 600.0  # seconds; no command takes a third of it on a core of its own

# The files of each module, below pgjax/; none is in two modules.
SOURCES = {
    "returns": ("estimators/returns.py",),
    "baselines": ("estimators/baselines.py",),
    "estimators": (
        "estimators/action_value.py",
        "estimators/estimator.py",
        "estimators/gae.py",
        "estimators/monte_carlo.py",
    ),
    "v_trace": ("estimators/v_trace.py",),
    "objectives": (
        "objectives/clipped_ratio.py",
        "objectives/importance_ratio.py",
        "objectives/lecture_ladder.py",
        "objectives/objective.py",
        "objectives/score_function.py",
    ),
    "advantage_weighted": ("objectives/advantage_weighted.py",),
    "kl_penalty": ("objectives/kl_penalty.py",),
    "distributions": ("policies/distributions.py",),
}

# The tests that a module's mutants must pass to survive, in that order.
TESTS = {
    "returns": ("tests/test_returns.py", "pgjax/estimators/returns.py"),
    "baselines": ("tests/test_baselines.py",),
    "estimators": ("tests/test_estimators.py",),
    "v_trace": ("tests/test_v_trace.py",),
    "objectives": ("tests/test_objectives.py",),
    "advantage_weighted": ("tests/test_advantage_weighted.py",),
    "kl_penalty": ("tests/test_kl_penalty.py",),
    "distributions": ("tests/test_distributions.py",),
}

# The replacements of an operator, of all that cosmic-ray has; operators not named have all.
KEPT = {
    "BinaryOperator_Add": ("Sub", "Mul"),
    "BinaryOperator_Sub": ("Add", "Mul"),
    "BinaryOperator_Mul": ("Add", "Div"),
    "BinaryOperator_Div": ("Mul", "Sub"),
    "BinaryOperator_BitOr": ("BitAnd", "BitXor"),
    "ComparisonOperator_Eq": ("NotEq", "LtE", "GtE"),
    "ComparisonOperator_Gt": ("GtE", "Lt", "NotEq"),
    "ComparisonOperator_GtE": ("Gt", "Lt", "Eq"),
    "ComparisonOperator_Lt": ("LtE", "Gt", "NotEq"),
    "UnaryOperator_USub": (),  # its deletion is another operator of cosmic-ray
}

# The modules in which `|` is between types only.
ONLY_TYPES = SOURCES.keys() - {"returns", "v_trace"}


def main() -> None:
    """Mutates every module, writes mutation.json and mutation.md."""
    flags = parser(__doc__.splitlines()[0])
    flags.add_argument("--modules", nargs="+", choices=TESTS, default=list(TESTS))
    flags.add_argument("--work", type=Path, help="folder that keeps the results of mutants")
    flags = flags.parse_args()
    folder = results_folder(flags)
    kept = None if flags.quick else flags.work  # a later run must not go on from a few mutants
    work = kept or Path(tempfile.mkdtemp(prefix="mutation-"))
    modules = ["baselines"] if flags.quick else flags.modules
    results = [mutated(module, work, 3 if flags.quick else None) for module in modules]
    total = summary("all", [mutant for result in results for mutant in result.pop("each")])
    contents = {"quick": flags.quick, "cosmic_ray": version("cosmic-ray"), "modules": results}
    write(folder, "mutation", {**contents, "total": total, "kept": KEPT})
    text = table([*results, total])
    (folder / "mutation.md").write_text(text + "\n" + "\n".join(map(listed, results)))
    print(f"{text}written to {folder}")


def mutated(module: str, work: Path, most: int | None) -> dict[str, Any]:
    """The summary of a module's mutants, and in "each" all of them.

    Args:
      module: a key of `TESTS`.
      work: the folder of sessions.
      most: only the first so many mutants; None: all.
    """
    config, session = prepared(module, work)
    note = session.with_suffix(".tests")  # the digest of the tests that survivors have passed
    tests = digest(*(ROOT / path for path in (*TESTS[module], "tests/conftest.py")))
    with tempfile.TemporaryDirectory() as root:
        tree = copied(Path(root))
        if not session.exists():
            begun = session.with_suffix(".begun")
            cosmic_ray("cosmic_ray.cli", tree, "init", config, begun)
            cosmic_ray("cosmic_ray.tools.filters.operators_filter", tree, begun, config)
            begun.rename(session)
        if to_do(session, not note.exists() or note.read_text() != tests, most):
            passes(module, tree)
            cosmic_ray("cosmic_ray.cli", tree, "exec", config, session)
            passes(module, tree)
            note.write_text(tests)
        each = mutants(cosmic_ray("cosmic_ray.cli", tree, "dump", session))
    result = summary(module, each) | {"each": each}
    print(f"{module}: {result['percent']} % of {result['mutants']}", flush=True)
    return result


def prepared(module: str, work: Path) -> tuple[Path, Path]:
    """cosmic-ray's config, and the path of its session, which depends on the module's contents."""
    config = work.resolve() / f"{module}.toml"
    excluded = json.dumps(left_out(module))
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(
        f"[cosmic-ray]\nmodule-path = {json.dumps(sources(module))}\ntimeout = {TIMEOUT}\n"
        f"test-command = {json.dumps(shlex.join(command(module)))}\n"
        'distributor.name = "local"\n'
        f"filters.operators-filter.exclude-operators = {excluded}\n"
    )
    contents = "".join((ROOT / path).read_text() for path in sources(module)) + excluded
    name = hashlib.sha256(contents.encode()).hexdigest()[:12]
    return config, config.with_name(f"{module}-{name}.sqlite")


def sources(module: str) -> list[str]:
    """The paths of a module's files in the checkout."""
    return [f"pgjax/{path}" for path in SOURCES[module]]


def copied(tree: Path) -> Path:
    """A copy of the files that the tests need, in which to mutate."""
    for name in ("pgjax", "tests"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tree)
    return tree.resolve()


def digest(*files: Path) -> str:
    """The digest of the files' contents."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def left_out(module: str) -> list[str]:
    """Patterns of the operators whose mutants are not run."""
    patterns = [
        rf"core/Replace{operator}_(?!({'|'.join(kept) or 'nothing'})$)"
        for operator, kept in KEPT.items()
    ]
    return [*patterns, "core/ReplaceBinaryOperator_BitOr_"] if module in ONLY_TYPES else patterns


def command(module: str) -> list[str]:
    """The command that runs a module's tests in one process, in their order, until one fails."""
    plain = ("-x", "-n", "0", "-p", "no:randomly", "-p", "no:cacheprovider", "--durations", "0")
    return [sys.executable, "-m", "pytest", *plain, *TESTS[module]]


def passes(module: str, tree: Path) -> None:
    """Raises unless the tests pass without a mutation, so that no failure has another reason."""
    done = subprocess.run(command(module), cwd=tree, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"without a mutation, tests of {module} fail:\n{done.stdout}")


def cosmic_ray(program: str, tree: Path, *arguments: Any) -> str:
    """The output of one of cosmic-ray's programs."""
    call = [sys.executable, "-m", program, *map(str, arguments)]
    return subprocess.run(call, cwd=tree, check=True, stdout=subprocess.PIPE, text=True).stdout


def to_do(session: Path, again: bool, most: int | None) -> int:
    """The number of mutants to run, with survivors if `again`; removes those beyond `most`."""
    pending = "SELECT job_id FROM work_items WHERE job_id NOT IN (SELECT job_id FROM work_results)"
    with contextlib.closing(sqlite3.connect(session)) as database, database:
        if again:
            database.execute("DELETE FROM work_results WHERE test_outcome = 'SURVIVED'")
        jobs = database.execute(pending).fetchall()
        number = len(jobs) if most is None else most
        for name in ("mutation_specs", "work_items"):
            database.executemany(f"DELETE FROM {name} WHERE job_id = ?", jobs[number:])
    return number


def mutants(dump: str) -> list[dict[str, Any]]:
    """Place, change and outcome of every mutant that was run."""
    records = []
    for item, result in map(json.loads, dump.splitlines()):
        if result["worker_outcome"] == "skipped":
            continue
        if result["worker_outcome"] != "normal":
            raise RuntimeError(f"cosmic-ray could not run a mutant: {result['output']}")
        (mutation,) = item["mutations"]
        changed = [line for line in result["diff"].splitlines() if line[:3] not in ("---", "+++")]
        timed_out = result["test_outcome"] == "killed" and result["output"] == "timeout"
        records.append(
            {
                "file": mutation["module_path"],
                "line": mutation["start_pos"][0],
                "operator": mutation["operator_name"].removeprefix("core/"),
                "was": " ".join(line[1:].strip() for line in changed if line[0] == "-"),
                "is": " ".join(line[1:].strip() for line in changed if line[0] == "+"),
                "outcome": "timed out" if timed_out else result["test_outcome"],
            }
        )
    return sorted(records, key=lambda mutant: (mutant["file"], mutant["line"], mutant["operator"]))


def summary(name: str, each: list[dict[str, Any]]) -> dict[str, Any]:
    """Counts of a module's mutants by outcome, and the survivors."""
    outcomes = [mutant["outcome"] for mutant in each]
    counts = {name.replace(" ", "_"): outcomes.count(name) for name in ("killed", "timed out")}
    survivors = [mutant for mutant in each if mutant["outcome"] == "survived"]
    return {
        "module": name,
        "mutants": len(each),
        **counts,
        "survived": len(survivors),
        "percent": significant(100 * (1 - len(survivors) / len(each))),
        "survivors": [{k: x for k, x in mutant.items() if k != "outcome"} for mutant in survivors],
    }


def table(results: Iterable[dict[str, Any]]) -> str:
    """A table with a row for each result."""
    names = ("module", "mutants", "killed", "timed_out", "survived", "percent")
    rows = [[result[name] for name in names] for result in results]
    return markdown([name.replace("_", " ") for name in names], rows)


def listed(result: dict[str, Any]) -> str:
    """A module's survivors, as a diff."""
    lines = [
        f"@@ {mutant['file']}:{mutant['line']} {mutant['operator']}\n"
        f"-{mutant['was']}\n+{mutant['is']}"
        for mutant in result["survivors"]
    ]
    return "\n".join([f"## {result['module']}\n", "```diff", *lines, "```\n"]) if lines else ""


if __name__ == "__main__":
    main()
