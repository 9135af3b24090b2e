"""The README's code runs and its files exist."""

import re
from pathlib import Path

import pgjax
from pgjax.training import config as config_module
from pgjax.training import training

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
SMALL = {"num_updates": 2, "sampler.num_trajectories": 8}


def run_block(block, monkeypatch):
    """Executes a block with every config made small."""
    whole = pgjax.Config

    def small(**fields):
        return whole(**fields).replace(**SMALL)

    monkeypatch.setattr(pgjax, "Config", small)
    names = {"__name__": "pasted"}  # nothing else: a block imports what it uses
    exec(block, names)
    return names


def test_the_first_example_runs_and_its_claims_hold(monkeypatch, capsys):
    monkeypatch.setattr(config_module, "Config", pgjax.Config)
    before = training._train._cache_size()
    names = run_block(BLOCKS[0], monkeypatch)
    assert names["curves"].episode_return.shape == (16, 2)
    assert names["sweep"].episode_return.shape == (5, 2)
    assert float(capsys.readouterr().out) > 8
    # Two calls of `train` outside of `vmap`, one program.
    assert training._train._cache_size() - before == 1


def returns_table(page):
    """The rows of the table of returns, by environment and config; cells as text."""
    table = re.search(r"<!-- returns -->\n(.*?)<!-- end of returns -->", page, re.DOTALL)[1]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    return {(row[0], row[1]): row for row in rows}


def test_returns_are_those_of_the_results_page_and_of_the_benchmark():
    all_of_them = returns_table((ROOT / "docs" / "results.md").read_text())
    some = returns_table(README)
    assert len(some) > 5
    assert some.items() <= all_of_them.items()
    measured = (ROOT / "benchmarks" / "results" / "returns.md").read_text().replace("-", "−")
    for (environment, config), row in all_of_them.items():
        start = rf"^\| {environment.replace('-', '−')} +\| {config} +\| (.*) \|$"
        cells = [cell.strip() for cell in re.search(start, measured, re.MULTILINE)[1].split("|")]
        _, mean, middle, interval, worst, mode, seconds, _ = cells
        low, high = interval.split(" … ")
        assert row[3:8] == [mean, f"{middle} ({low} to {high})", worst, mode, seconds], row


def test_returns_of_other_suites_are_those_of_the_benchmark():
    page = (ROOT / "docs" / "results.md").read_text()
    start, end = "<!-- suite returns -->\n", "<!-- end of suite returns -->"
    shown = [cells(line) for line in page.split(start)[1].split(end)[0].splitlines()[2:]]
    lines = (ROOT / "benchmarks" / "results" / "suite_returns.md").read_text().splitlines()
    measured = [cells(line) for line in lines if "/" in line and line.startswith("|")]
    kept = [(*row[:3], row[3], row[4], f"{row[5]} ({row[6]})", *row[7:10]) for row in measured]
    assert shown == [list(row) for row in kept]


def test_the_table_of_tasks_on_the_host_is_the_benchmarks():
    page = (ROOT / "docs" / "results.md").read_text()
    shown = page.split("<!-- host -->\n")[1].split("<!-- end of host -->")[0]
    assert (ROOT / "benchmarks" / "results" / "host.md").read_text().endswith(f"\n\n{shown}")


def cells(line):
    """The cells of a line of a table, without the spaces that pad them."""
    return [cell.strip() for cell in line.split("|")[1:-1]]


def test_linked_files_exist():
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / link).exists(), link


def test_the_results_page_links_every_table():
    page = (ROOT / "docs" / "results.md").read_text()
    links = set(re.findall(r"\]\(\.\./(benchmarks/results/[^)#]+\.md)\)", page))
    tables = (ROOT / "benchmarks" / "results").glob("*.md")
    assert links == {f"benchmarks/results/{table.name}" for table in tables}
