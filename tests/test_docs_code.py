"""Every Python block of the pages in docs/ runs, and what it configures trains."""

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import pytest

import pgjax

ROOT = Path(__file__).parents[1]
BLOCKS = {
    str(page.relative_to(ROOT)): re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    for page in sorted((ROOT / "docs").rglob("*.md"))
}


@pytest.mark.parametrize("page", [page for page, blocks in BLOCKS.items() if blocks])
def test_python_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=dict, log=lambda *_, **__: None))
    for block in BLOCKS[page]:
        # Devices are made before all else; tests/test_package.py does it in a new process.
        if "jax_num_cpu_devices" in block:
            continue
        if "pgjax.tune(" in block:
            pytest.importorskip("optuna")
        names = {"__name__": "pasted"}  # nothing else: a block imports what it uses
        exec(block, names)
        results = [getattr(value, "metrics", value) for value in names.values()]
        trained = [result for result in results if isinstance(result, pgjax.Metrics)]
        assert all(metrics.finite.all() for metrics in trained)
        if "config" in names and "/guides/" in page and not trained:
            rows = names["config"].sampler.rows_field
            small = names["config"].replace(**{f"sampler.{rows}": 5, "num_updates": 1})
            _, metrics = pgjax.train(jax.random.key(0), small)
            assert metrics.finite.all()
