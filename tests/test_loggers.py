"""Loggers: what they are given, by a fake of each project; and the real ones, where installed."""

import sys

import numpy as np
import pytest

import pgjax
from pgjax.cli.main import main
from pgjax.core.types import Evaluation, Metrics
from pgjax.runs import loggers

CONFIG = pgjax.Config(env="Catch-bsuite", num_updates=4)


class Written(pgjax.Logger):
    """Keeps what it is told to write."""

    def __init__(self, *args):
        super().__init__(*args)
        self.lines = []

    def open(self):
        self.lines.append("open")

    def log(self, step, values):
        self.lines.append((step, values))

    def close(self):
        self.lines.append("close")


def progress_of(updates, num_updates, evaluation=None):
    """The progress after a block of updates, each of 10 steps."""
    ones = np.ones(len(updates))
    names = ("episode_length", "num_episodes", "entropy", "gradient_norm", "objective")
    metrics = Metrics(
        episode_return=np.array(updates, float),
        env_steps=10 * np.arange(num_updates - len(updates) + 1, num_updates + 1),
        finite=ones.astype(bool),
        **dict.fromkeys(names, ones),
    )
    counters = {"seconds": ones, "compile_seconds": 0.0, "run_seconds": 1.0}
    return pgjax.Progress(
        num_updates, 10 * num_updates, metrics, _state=None, evaluation=evaluation, **counters
    )


RESULT = Evaluation(np.array([1.0, 4.0]), np.array([9, 9]), np.float32(2.5), np.array([1.0, 4.0]))
BLOCKS = [progress_of([1.0, np.nan], 2), progress_of([3.0, 4.0], 4, RESULT)]


def test_each_interval_is_written_and_each_evaluation(tmp_path):
    with Written(tmp_path, CONFIG, 2) as log:
        for block in BLOCKS:
            log(block)
    assert log.config["env"] == "Catch-bsuite"
    first, *rows, last = log.lines
    assert (first, last) == ("open", "close")
    assert [step for step, _ in rows] == [20, 40, 40]
    assert "episode_return" not in rows[0][1]  # no episode ended
    assert rows[1][1]["episode_return"] == 4.0
    assert "env_steps" not in rows[1][1]
    evaluated = {"evaluation/return": 2.5, "evaluation/low": 1.0, "evaluation/high": 4.0}
    assert rows[2][1] == evaluated


def test_what_never_began_is_not_closed(tmp_path):
    with Written(tmp_path) as log:
        pass
    assert log.lines == []
    with pytest.raises(ValueError, match="interval must be at least 1"):
        Written(tmp_path, None, 0)


class Recorder:
    """Stands for a project: remembers every call, by its dotted name."""

    def __init__(self, calls, path=""):
        self._calls, self._path = calls, path

    def __getattr__(self, name):
        return Recorder(self._calls, f"{self._path}.{name}".lstrip("."))

    def __call__(self, *args, **kwargs):
        self._calls.append((self._path, args, kwargs))
        return Recorder(self._calls, f"{self._path}()")


def calls_of(cls, folder, monkeypatch):
    calls = []
    monkeypatch.setitem(sys.modules, cls.project, Recorder(calls))
    with cls(folder / "run", CONFIG, 2) as log:
        for block in BLOCKS:
            log(block)
    return calls


def test_weights_and_biases_are_offline_by_default(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    calls = calls_of(pgjax.WeightsAndBiases, tmp_path, monkeypatch)
    (started,) = [kwargs for name, _, kwargs in calls if name == "init"]
    assert (started["mode"], started["name"]) == ("offline", "run")
    assert started["dir"] == str(tmp_path / "run")
    assert started["config"]["num_updates"] == 4
    logged = [(args, kwargs) for name, args, kwargs in calls if name == "init().log"]
    assert [kwargs["step"] for _, kwargs in logged] == [20, 40, 40]
    assert logged[1][0][0]["episode_return"] == 4.0
    assert calls[-1][0] == "init().finish"


def test_mlflow_has_a_store_in_the_run_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # restored after the test
    calls = calls_of(pgjax.MLflow, tmp_path, monkeypatch)
    uri = (tmp_path / "run" / "mlflow").as_uri()
    assert calls[0] == ("MlflowClient", (), {"tracking_uri": uri})
    params = dict(args for name, args, _ in calls if name == "entities.Param")
    assert params["sampler.type"] == "Episodes"
    metrics = [args for name, args, _ in calls if name == "entities.Metric"]
    assert ("episode_return", 4.0, 40) in [(name, value, step) for name, value, _, step in metrics]
    assert calls[-1][0] == "MlflowClient().set_terminated"


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_the_real_ones_leave_their_files(name, tmp_path, monkeypatch):
    pytest.importorskip(name)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    (cls,) = loggers.named([name])
    with cls(tmp_path, CONFIG) as log:
        log(BLOCKS[1])
    files = {path.name for path in (tmp_path / name).rglob("*") if path.is_file()}
    assert "episode_return" in files or any(file.endswith(".wandb") for file in files)


@pytest.mark.parametrize("name", list(loggers.LOGGERS))
def test_a_logger_without_its_extra_names_it(name, monkeypatch, tmp_path, capsys):
    (cls,) = loggers.named([name])
    monkeypatch.setitem(sys.modules, cls.project, None)
    folder = ["--directory", str(tmp_path / "run")]
    assert main(["train", "Catch-bsuite", "--logger", name, *folder]) == 2
    err = capsys.readouterr().err
    assert f"need the extra: pip install 'pgjax-rl[{cls.extra}]'" in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_an_unknown_logger_is_one_line(tmp_path, capsys):
    folder = ["--directory", str(tmp_path / "run")]
    assert main(["train", "Catch-bsuite", "--logger", "wandb,tensorbord", *folder]) == 2
    assert "unknown logger 'tensorbord'; did you mean 'tensorboard'" in capsys.readouterr().err


def test_a_name_counts_once():
    assert loggers.named(["mlflow", "mlflow"]) == [pgjax.MLflow]
