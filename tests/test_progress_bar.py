"""The progress of a run: in a notebook, in lines, in a terminal."""

import nbformat
import pytest
from nbclient import NotebookClient
from test_loggers import BLOCKS

import pgjax
from pgjax.runs import progress_bar

QUICK = {"sampler.num_trajectories": 4, "network": pgjax.MLP((4,)), "optimizer": pgjax.SGD()}
CONFIG = pgjax.reinforce("Catch-bsuite", num_updates=3, **QUICK)

CELL = """
import pgjax
config = pgjax.reinforce("Catch-bsuite", num_updates=3, optimizer=pgjax.SGD())
run = pgjax.run(config.replace(**{"sampler.num_trajectories": 4}), progress=True)
f"{run.metrics.episode_return[-1]:.2f}"
"""


# What the client's own packages deprecate is not this project's matter.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_notebook_shows_a_bar_that_ends_with_the_last_return(tmp_path):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
    bar, result = notebook.cells[0].outputs
    assert bar.output_type == "display_data"
    last_return = result.data["text/plain"].strip("'")
    assert bar.data["text/plain"].startswith(f"3/3 updates, return {last_return}, ")
    assert '<progress value="3" max="3"></progress>' in bar.data["text/html"]


def test_lines_are_printed_where_there_is_no_terminal_and_on_block_still_ends_the_run(capsys):
    blocks = []

    def stop_at_once(block):
        blocks.append(block.num_updates)
        return False

    run = pgjax.run(CONFIG, on_block=stop_at_once, progress=True)
    assert run.stopped
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith(f"  update {blocks[0]}/3  return ")


def test_a_terminal_has_one_bar(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes the output for a terminal
    with progress_bar.displayed(4) as show:
        for block in BLOCKS:
            show(block)
    out = capsys.readouterr().out
    assert "4/4" in out
    assert "4.00" in out


def test_another_value_than_a_bool_is_refused_before_compilation():
    with pytest.raises(TypeError, match="progress must be True or False, got 'bar'"):
        pgjax.run(CONFIG, progress="bar")
