"""The repository's habits agree with each other: versions, CI, hooks, forms, what runs code."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import jax
import pytest
import yaml

import pgjax
from pgjax.runs import config_json

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
YAML = {
    str(path.relative_to(ROOT)): yaml.safe_load(path.read_text())
    for path in [
        *(ROOT / ".github").rglob("*.yml"),
        ROOT / ".pre-commit-config.yaml",
        ROOT / "CITATION.cff",
    ]
}
JOBS = YAML[".github/workflows/ci.yml"]["jobs"]
FORMS = {path: form for path, form in YAML.items() if "ISSUE_TEMPLATE" in path and "body" in form}
HOOKS = [hook for repo in YAML[".pre-commit-config.yaml"]["repos"] for hook in repo["hooks"]]


def versions_in(texts):
    return {found[0] for text in texts if (found := re.search(r"3\.\d+$", str(text)))}


def test_the_citation_has_the_version_and_the_licence_of_the_package():
    citation = YAML["CITATION.cff"]
    assert citation["version"] == pgjax.__version__
    assert citation["license"] == PROJECT["license"]
    assert citation["type"] == "software"


def test_the_changelog_begins_with_what_is_not_released():
    changelog = (ROOT / "CHANGELOG.md").read_text()
    sections = re.findall(r"^## (.+)$", changelog, re.MULTILINE)
    assert sections[0] == "Unreleased"
    released = [section.split()[0] for section in sections[1:]]
    assert pgjax.__version__ in released or f"will be {pgjax.__version__}" in changelog
    for kind in re.findall(r"^### (.+)$", changelog, re.MULTILINE):
        assert kind in ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")


def matrix():
    """Every (Python, versions) that the workflow tests the wheel with."""
    lists = dict(JOBS["wheel"]["strategy"]["matrix"])
    extra = [(each["python"], each["versions"]) for each in lists.pop("include")]
    return [(p, v) for p in lists["python"] for v in lists["versions"]] + extra


def test_the_matrix_has_every_python_of_the_project():
    pythons = {python for python, _ in matrix()}
    classifiers = versions_in(PROJECT["classifiers"])
    assert classifiers <= pythons
    # A Python that is no classifier may fail.
    (may_fail,) = re.findall(r"'(3\.\d+)'", JOBS["wheel"]["continue-on-error"])
    assert pythons - classifiers == {may_fail}
    least = PROJECT["requires-python"].removeprefix(">=")
    assert least == min(pythons, key=lambda version: int(version.split(".")[1]))
    assert (least, "oldest") in matrix()
    assert {v for _, v in matrix()} == {"oldest", "newest"}


def test_jobs_only_read_and_end():
    workflow = YAML[".github/workflows/ci.yml"]
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["concurrency"]["group"]
    for job in JOBS.values():
        assert 0 < job["timeout-minutes"] <= 90
        assert "permissions" not in job
        (command,) = [step["run"] for step in job["steps"] if "run" in step]
        assert command.startswith(".ci/run ")


def test_the_oldest_versions_are_the_lower_bounds():
    done = subprocess.run([ROOT / ".ci/oldest"], capture_output=True, text=True, check=True)
    for name in ("jax", "jaxlib"):
        (bound,) = [line for line in PROJECT["dependencies"] if line.startswith(f"{name}>=")]
        least = re.match(r"\w+>=([\d.]+)", bound)[1]
        assert f"{name}=={least}" in done.stdout.splitlines()


PYTHON = """#!/usr/bin/env bash
# A Python that makes environments of programs which write down how they are called.
case "$*" in
  --version) echo "Python 3.99" ;;
  "-m venv "*)
    mkdir -p "$3/bin"
    for name in pip pytest; do
      printf '#!/usr/bin/env bash\\necho "%s $*" >> "$LOG"\\n' "$name" > "$3/bin/$name"
      chmod +x "$3/bin/$name"
    done
    echo '[ "$1" != wheel ] || { mkdir wheels && touch wheels/x.whl; }' >> "$3/bin/pip"
    echo '[ "$1" != install ] || cat constraints.txt >> "$LOG"' >> "$3/bin/pip" ;;
  .ci/oldest) echo "jax==0.0" ;;
esac
"""


@pytest.mark.parametrize("versions", [[], ["newest"], ["oldest"]])
def test_a_wheel_is_built_installed_and_tested_with_the_given_python(tmp_path, versions):
    python, log = tmp_path / "python", tmp_path / "log"
    python.write_text(PYTHON)
    python.chmod(0o755)
    command = [ROOT / ".ci/run", "wheel", python, *versions]
    environment = {"PATH": "/usr/bin:/bin", "LOG": str(log), "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    build, install, *constraints, test = log.read_text().splitlines()
    assert build.startswith("pip wheel")
    assert install.endswith("wheels/x.whl[test]")
    assert constraints == (["jax==0.0"] if versions == ["oldest"] else [])
    assert test == "pytest -m not slow tests"
    assert {path.name for path in tmp_path.iterdir()} == {"python", "log"}  # the copy is removed


SUITES_PYTHON = """#!/usr/bin/env bash
# A Python that makes environments of programs which write down how they are called.
mkdir -p "$3/bin"
for name in pip python; do
  printf '#!/usr/bin/env bash\\necho "%s $*" >> "$LOG"; echo "$SAID"\\n' "$name" > "$3/bin/$name"
  chmod +x "$3/bin/$name"
done
"""


@pytest.mark.parametrize(("said", "code"), [("30 passed", 0), ("SKIPPED [1] no brax", 1)])
def test_no_test_of_a_suite_is_skipped(tmp_path, said, code):
    python, log = tmp_path / "python", tmp_path / "log"
    python.write_text(SUITES_PYTHON)
    python.chmod(0o755)
    environment = {"PATH": "/usr/bin:/bin", "LOG": str(log), "TMPDIR": str(tmp_path), "SAID": said}
    command = [ROOT / ".ci/run", "suites", python]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    install, *_, test = log.read_text().splitlines()
    assert install.endswith("-e .[test,suites,mujoco]")
    assert "tests/test_host.py::test_mujoco" in test
    for file in (ROOT / "tests").glob("test_suite_*.py"):
        assert f"tests/{file.name}" in test
    assert {path.name for path in tmp_path.iterdir()} == {"python", "log"}


@pytest.mark.parametrize(
    "arguments", ["suites a b", "x", "wheel", "source x", "wheel python latest", "wheel a b c"]
)
def test_a_part_that_does_not_exist_is_answered_with_those_that_do(arguments):
    command = [ROOT / ".ci/run", *arguments.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert ".ci/run wheel PYTHON" in done.stderr
    assert ".ci/run suites" in done.stderr


def test_hooks_download_nothing_and_run_what_is_there():
    assert {repo["repo"] for repo in YAML[".pre-commit-config.yaml"]["repos"]} == {"local"}
    extras = " ".join(line for extra in PROJECT["optional-dependencies"].values() for line in extra)
    for hook in HOOKS:
        assert hook["language"] == "system"
        program = hook["entry"].split()[0]
        assert program == "python" or re.search(rf"\b{program}[>=[]", extras)


def test_the_notebooks_hook_selects_the_test_of_their_outputs():
    (entry,) = [hook["entry"] for hook in HOOKS if hook["id"] == "notebooks"]
    path, selected = re.search(r"(\S+\.py) -k (\w+)", entry).groups()
    assert [
        name
        for name in re.findall(r"def (test_\w+)", (ROOT / path).read_text())
        if selected in name
    ]


@pytest.mark.parametrize("path", FORMS)
def test_forms_ask_each_question_once(path):
    form = FORMS[path]
    assert form["name"]
    assert form["description"]
    questions = [part for part in form["body"] if part["type"] != "markdown"]
    ids = [part["id"] for part in questions]
    assert len(set(ids)) == len(ids) > 0
    assert all(part["attributes"]["label"] for part in questions)
    assert any(part.get("validations", {}).get("required") for part in questions)


def calls():
    """Every call in the package: (file, name of the function, the call)."""
    for path in sorted((ROOT / "pgjax").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                yield path.name, ast.unparse(node.func), node


def test_reading_a_folder_cannot_run_code_by_a_pickle_or_an_evaluated_text():
    """What SECURITY.md says of run folders."""
    loads = 0
    for file, function, call in calls():
        assert function not in ("eval", "exec", "yaml.load", "runpy.run_path"), file
        if function in ("np.load", "numpy.load"):
            loads += 1
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
            assert given.get("allow_pickle") == "False", file
    assert loads
    for path in (ROOT / "pgjax").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = {alias.name for alias in node.names} | {getattr(node, "module", "")}
                assert not names & {"pickle", "marshal", "shelve", "dill", "cloudpickle"}, path


@pytest.mark.parametrize("field", ["network", "optimizer", "env"])
def test_a_module_that_a_config_names_is_not_imported(field, tmp_path, monkeypatch):
    (tmp_path / "planted.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    data = json.loads(json.dumps(config_json.to_dict(pgjax.Config(env="CartPole-v1"))))
    data[field] = {**data[field], "type": "planted.Own"} if field != "env" else "planted:make"
    with pytest.raises(ValueError, match="planted"):
        pgjax.init(jax.random.key(0), config_json.from_dict(data))
    assert "planted" not in sys.modules


def test_the_release_checklist_names_files_that_exist():
    text = (ROOT / "RELEASING.md").read_text()
    for name in re.findall(r"`([\w/]+\.\w+)`|\]\(([^)]+)\)", text):
        assert (ROOT / "".join(name)).is_file(), name
    assert PROJECT["name"] in text
