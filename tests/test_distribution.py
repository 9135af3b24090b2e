"""The distribution is `pgjax-rl`: the index's `pgjax` is another project."""

import importlib.metadata
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

import pgjax
from pgjax.cli import diagnosis
from pgjax.core import distribution

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture
def beside(monkeypatch):
    """Pretends that a distribution `pgjax` of version 9.1 is installed beside `pgjax-rl`."""
    installed = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: "9.1" if name == "pgjax" else installed(name)
    )


def texts():
    listing = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    # A copy without its history, such as CI's, has every file of the checkout and no other.
    names = listing.stdout.splitlines() or [
        path.relative_to(ROOT)
        for path in ROOT.rglob("*.*")
        if not path.relative_to(ROOT).parts[0].startswith(".venv")
    ]
    for name in names:
        path = ROOT / name
        if path.suffix in (".py", ".md", ".toml", ".ipynb", ".yml", ".yaml", ".pyi", ".cff"):
            yield path, path.read_text()


def test_the_name_and_the_version_stand_in_one_place():
    assert PROJECT["name"] == distribution.NAME
    assert "version" not in PROJECT
    assert distribution.version("pgjax") == pgjax.__version__


def test_no_file_installs_the_other_project():
    wrong = re.compile(r"pip install\b[^\n`]*[ \t'\"]pgjax(?![-\w/])|['\"`]pgjax\[")
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path, text in texts()
        for match in wrong.finditer(text)
        if path != Path(__file__)
    ]
    assert found == []


def test_every_hint_names_an_extra_that_exists():
    # The tests have a suite whose extra is absent.
    pages = (text for path, text in texts() if ROOT / "tests" not in path.parents)
    hints = {
        extra
        for text in pages
        for extras in re.findall(r"pgjax-rl\[([\w,-]+)\]", text)
        for extra in extras.split(",")
    }
    assert {"tensorboard", "brax"} <= hints
    assert hints <= set(PROJECT["optional-dependencies"])


def test_nothing_is_said_of_this_distribution_alone():
    assert distribution.conflict() is None


@pytest.mark.usefixtures("beside")
def test_the_other_distribution_is_named_with_what_mends_it():
    assert distribution.version("pgjax") == pgjax.__version__
    sentence = distribution.conflict()
    assert sentence.startswith("the distribution 'pgjax' 9.1 is installed")
    assert "pip uninstall pgjax pgjax-rl, then install pgjax-rl again" in sentence


@pytest.mark.usefixtures("beside")
def test_the_doctor_names_the_other_distribution(monkeypatch):
    monkeypatch.setattr(diagnosis, "_small_run", lambda: (1.5, 2e6))
    (line,) = (line for line in diagnosis.report() if line.startswith("wrong: "))
    assert line == f"wrong: {distribution.conflict()}"
