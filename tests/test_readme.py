"""The README's code runs, its files exist, and its layout is the order of imports."""

import ast
import re
from pathlib import Path

import pgjax

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
    monkeypatch.setattr(pgjax.config, "Config", pgjax.Config)
    before = pgjax.training._train._cache_size()
    names = run_block(BLOCKS[0], monkeypatch)
    assert names["curves"].episode_return.shape == (16, 2)
    assert names["sweep"].episode_return.shape == (5, 2)
    assert float(capsys.readouterr().out) > 8
    # Two calls of `train` outside of `vmap`, one program.
    assert pgjax.training._train._cache_size() - before == 1


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


def test_linked_files_exist():
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / link).exists(), link


def layout():
    """Every file that the layout names, as "rollout" or "critics.base"; a line has one folder."""
    for line in README.partition("## Layout")[2].partition("benchmarks/")[0].splitlines():
        folder = re.match(r"pgjax/(?:(\w+)/)?", line)
        for name in re.findall(r"(\w+)\.py", line):
            yield f"{folder[1]}.{name}" if folder[1] else name


def test_every_file_imports_only_from_those_above_it():
    order, package = list(layout()), ROOT / "pgjax"
    files = {
        ".".join(p.relative_to(package).with_suffix("").parts): p
        for p in package.rglob("*.py")
        if p.stem != "__init__"
    }
    folders = {name.partition(".")[0] for name in files if "." in name}
    assert sorted(order) == sorted(files)
    for position, name in enumerate(order):
        tree = ast.parse(files[name].read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pgjax"):
                module = node.module.partition(".")[2]
                imported = [module] if module else [alias.name for alias in node.names]
                if module in folders:
                    imported = [f"{module}.{alias.name}" for alias in node.names]
                for other in imported:
                    assert other in order[:position], f"{name} imports {other}"
        if name not in ("spaces", "environments"):
            imports = [n for n in ast.walk(tree) if isinstance(n, (ast.Import, ast.ImportFrom))]
            assert not any("gymnax" in ast.dump(n) and "pgjax" not in ast.dump(n) for n in imports)
