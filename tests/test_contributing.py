"""CONTRIBUTING.md, typed as it stands: its estimator passes the checks, its commands exist."""

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text()
WALK = PAGE.partition("\n## Add an estimator\n")[2].partition("\n## Measure a speed-up\n")[0]
NEW_FILE = re.compile(r"^`([\w/.]+)`:\n\n(```+)\w+\n(.*?)^\2$", re.DOTALL | re.MULTILINE)
NEW_FILES = {path: text for path, _, text in NEW_FILE.findall(WALK)}
PROGRAMS = Path(sys.executable).parent


def edits():
    """Of each file in the block of changes: the lines that are there, and those to add below."""
    block = re.search(r"^```diff\n(.*?)^```$", WALK, re.DOTALL | re.MULTILINE)[1]
    for part in re.split(r"^\+\+\+ ", block, flags=re.MULTILINE)[1:]:
        path, *lines = part.splitlines()
        there = [line[1:] for line in lines if line.startswith(" ")]
        added = [line[1:] for line in lines if line.startswith("+")]
        assert lines == [f" {line}" for line in there] + [f"+{line}" for line in added]
        yield path, "\n".join(there) + "\n", "\n".join(added) + "\n"


EDITS = list(edits())


def checks():
    """The commands below "Check it"."""
    return re.search(r"<!-- checks -->\n```sh\n(.*?)```", WALK, re.DOTALL)[1].splitlines()


def digests(folder):
    """Of every file that is not hidden, by its path."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
        and not re.search(r"(^|/)(\.|__pycache__/)", str(path.relative_to(folder)))
    }


def not_of_the_tree(folder, names):
    """What lies in a checkout and is not kept in it."""
    built = {"build", "dist", "runs", "site", "wheels"} if Path(folder) == ROOT else set()
    return [n for n in names if n[0] == "." or n in built or n == "__pycache__" or "egg-info" in n]


@pytest.fixture(scope="module")
def typed(tmp_path_factory):
    """A copy of the tree in which all has been typed, and the digests of before."""
    folder = tmp_path_factory.mktemp("stranger") / "pgjax"
    shutil.copytree(ROOT, folder, ignore=not_of_the_tree)
    before = digests(folder)
    for path, text in NEW_FILES.items():
        assert not (folder / path).exists()
        (folder / path).write_text(text)
    for path, there, added in EDITS:
        text = (folder / path).read_text()
        assert text.count(there) == 1, f"{path}: {there}"
        (folder / path).write_text(text.replace(there, there + added))
    return folder, before


def run(command, folder):
    program, *arguments = shlex.split(command)
    program = str(PROGRAMS / program.removeprefix(".venv/bin/"))
    return subprocess.run(
        [program, *arguments],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize("command", checks())
def test_the_checks_of_the_example_pass(typed, command):
    folder, _ = typed
    done = run(command, folder)
    assert done.returncode == 0, done.stdout + done.stderr
    if "pytest" in command:
        assert re.search(r"^\d+ passed", done.stdout, re.MULTILINE)
        assert "failed" not in done.stdout


def test_the_example_is_known_to_flags_and_to_config_json(typed):
    folder, _ = typed
    program = (
        "import json, pgjax, pgjax.cli.flags as flags, pgjax.cli.parsers as parsers\n"
        "from pgjax.runs import config_json\n"
        "given = 'Catch-bsuite --algorithm actor-critic --estimator NStepReturn --estimator.n 7'\n"
        "config = flags.read(given.split(), parsers.train())[1]()\n"
        "assert config.estimator == pgjax.NStepReturn(n=7)\n"
        "data = json.loads(json.dumps(config_json.to_dict(config)))\n"
        "assert config_json.from_dict(data) == config\n"
    )
    done = run(f".venv/bin/python -c {shlex.quote(program)}", folder)
    assert done.returncode == 0, done.stderr


def test_no_file_is_touched_that_the_page_does_not_name(typed):
    folder, before = typed
    after = digests(folder)
    changed = {path for path in before.keys() | after if before.get(path) != after.get(path)}
    assert changed == {*NEW_FILES, *(path for path, *_ in EDITS)}


def test_the_example_is_typed_in_a_quarter_of_an_hour():
    characters = sum(map(len, NEW_FILES.values())) + sum(len(added) for _, _, added in EDITS)
    assert characters < 15 * 300  # sixty words of five letters a minute


def commands():
    """Every command line of the page, in blocks and in the text."""
    for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL):
        yield from block.splitlines()
    prose = re.sub(r"^(```+).*?^\1$", "", PAGE, flags=re.DOTALL | re.MULTILINE)
    spans = (" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose))
    yield from (span for span in spans if span.startswith((".venv/", ".ci/run")))


def test_every_command_is_there():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    dependencies = {re.match(r"[\w-]+", line)[0] for extra in extras.values() for line in extra}
    programs, files = set(), set()
    for command in commands():
        words = shlex.split(command)
        programs |= {word for word in words if word.startswith((".venv/bin/", ".ci/"))}
        files |= {word for word in words if re.fullmatch(r"[a-z_]+/\w+\.py", word)}
        installed = re.fullmatch(r"\S+/pip install (?:-e '\.\[(\w+)\]'|(\S+))", command)
        if "/pip install" in command:
            assert installed[1] in extras or installed[2] == "pre-commit", command
    assert {file for file in files if not (ROOT / file).is_file()} <= NEW_FILES.keys()
    assert (ROOT / ".ci/run").is_file()
    known = {"python", "pip", "pre-commit"} | dependencies  # what is in .venv/bin by its own name
    assert {re.sub(r".*/", "", program) for program in programs} - {"run"} <= known


@pytest.mark.parametrize("command", [c for c in commands() if " -k " in c and c not in checks()])
def test_a_selection_of_tests_selects_some(command):
    file, words = re.search(r"(tests/\w+\.py) -k (\w+)", command).groups()
    tests = re.findall(r"def (test_\w+)", (ROOT / file).read_text())
    assert [name for name in tests if words in name]


def test_links_lead_to_files():
    for target in re.findall(
        r"\]\((?!\w+:)([^)#]+)\)", re.sub(r"````.*?````|```.*?```", "", PAGE, flags=re.DOTALL)
    ):
        assert (ROOT / target).exists(), target
