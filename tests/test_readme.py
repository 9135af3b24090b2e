"""The README's code runs, its files exist, and its layout is the order of imports."""

import ast
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import jax

import pgjax

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
# Devices are made before anything else runs; tests/test_package.py does it in a new process.
BLOCKS = [block for block in BLOCKS if "jax_num_cpu_devices" not in block]
SMALL = {"num_updates": 2, "sampler.num_trajectories": 8}


def run_block(block, monkeypatch):
    """Executes a block with every config made small."""
    whole = pgjax.Config

    def small(**fields):
        return whole(**fields).replace(**SMALL)

    monkeypatch.setattr(pgjax, "Config", small)
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=dict, log=lambda *_, **__: None))
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


def test_the_other_examples_make_configs_that_train(monkeypatch):
    for block in BLOCKS[1:]:
        with monkeypatch.context() as patch:
            config = run_block(block, patch)["config"]
        rows = config.sampler.rows_field
        _, metrics = pgjax.train(jax.random.key(0), config.replace(**{f"sampler.{rows}": 5}))
        assert metrics.finite.all()


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
