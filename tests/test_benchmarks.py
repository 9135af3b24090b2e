"""Every benchmark runs at small size and writes finite figures and a picture."""

import importlib
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import pgjax
from pgjax.runs.zoo import entries

ROOT = Path(__file__).resolve().parents[1]


def run(name, folder):
    """What `benchmarks/name.py --quick` writes into a folder: its JSON, and a picture."""
    result = quick(name, folder)
    assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    return result


def quick(name, folder):
    """What `benchmarks/name.py --quick` writes into a folder: its JSON."""
    search = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    result = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), "--quick", "--out", str(folder)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(search)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return json.loads((folder / f"{name}.json").read_text())


def positive(*numbers):
    """Whether all are finite and above zero."""
    return all(math.isfinite(number) and number > 0 for number in numbers)


def test_throughput(tmp_path):
    found = run("throughput", tmp_path)
    assert [point["m"] for point in found["points"]] == [16]
    for point in found["points"]:
        for line in ("environment", "ceiling", "train", "ceiling_all", "train_all"):
            measured = point[line]
            speeds = [measured[name] for name in ("lowest", "steps_per_second", "highest")]
            assert positive(*speeds, measured["compile_seconds"])
            assert speeds == sorted(speeds)
            assert measured["repeats"] >= 3
    assert positive(found["facts"]["num_cores"])
    assert found["facts"]["versions"]["jax"]


def test_returns(tmp_path):
    (found,) = run("returns", tmp_path)["environments"]
    assert found["env"] == "Catch-bsuite"
    assert positive(found["env_steps"], found["seconds"], found["compile_seconds"])
    for evaluation in (found["stochastic"], found["deterministic"]):
        low, high = evaluation["interval"]
        assert -1.0 <= evaluation["worst"] <= evaluation["mean"] <= 1.0
        assert low <= evaluation["mean"] <= high
        assert len(evaluation["seeds"]) == 2
    assert "Catch-bsuite" in (tmp_path / "returns.md").read_text()
    (again,) = run("returns", tmp_path)["environments"]
    assert again == found  # what is there is kept, its date too


def test_suite_returns(tmp_path):
    pytest.importorskip("navix")
    (found,) = run("suite_returns", tmp_path)["environments"]
    assert found["env"] == "navix/Navix-Empty-5x5-v0"
    assert 0.0 <= found["untrained"] <= 1.0
    assert len(found["stochastic"]["seeds"]) == 2
    assert "navix/Navix-Empty-5x5-v0" in (tmp_path / "suite_returns.md").read_text()


def test_host(tmp_path):
    pytest.importorskip("mujoco")
    returns, speed = run("host", tmp_path)["processes"]
    assert (returns["part"], speed["part"]) == ("returns", "speed")
    assert positive(returns["seconds"], speed["seconds"])
    assert returns["steps"] == speed["steps"] == 4096
    assert "HalfCheetah-v5" in (tmp_path / "host.md").read_text()


def test_tune():
    values = ["--set", "num_updates=2", "--grid", "optimizer.learning_rate=0.01,0.1"]
    sizes = ["--num-seeds", "2", "--episodes", "4"]
    command = ["benchmarks/tune.py", "Catch-bsuite", "reinforce", *values, *sizes]
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    rows = [line.split("|") for line in done.stdout.splitlines() if line.startswith("| 0.")]
    assert {float(row[1]) for row in rows} == {0.01, 0.1}
    returns = [float(row[2]) for row in rows]
    assert returns == sorted(returns, reverse=True)


def test_searches(tmp_path):
    parts = run("searches", tmp_path)["parts"]
    lines = parts["time 0"]["lines"]
    assert lines["vmapped seeds"]["env_steps"] == 3 * 9 * 4 * 9  # seeds, updates, m, steps
    for row in lines.values():
        assert positive(*row.values())
        parts_of_it = row["compile_seconds"] + row["running_seconds"]
        assert math.isclose(parts_of_it, row["seconds"], rel_tol=1e-3)
    stages = parts["Catch-bsuite, population"]["stages"]
    assert (stages[0]["first"], stages[-1]["last"]) == (1, 9)
    (stage,) = parts["Catch-bsuite, grid"]["stages"]
    assert stage["setting"]["optimizer.learning_rate"] in (1e-3, 2e-3)
    for found in ("successive halving", "population", "population, last setting", "grid", "preset"):
        returns = parts[f"Catch-bsuite, {found}, anew"]["seeds"]
        assert len(returns) == 2
        assert all(-1.0 <= x <= 1.0 for x in returns)
    assert "vmapped seeds" in (tmp_path / "searches.md").read_text()
    assert run("searches", tmp_path)["parts"] == parts  # what is there is kept, its date too


def test_settings_that_change_are_those_of_their_updates(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    searches = importlib.import_module("searches")
    sizes = searches.QUICK_QUALITY["Catch-bsuite"]

    def params(*stages):
        configs = searches.by_update(sizes.config, stages)
        return jax.tree.leaves(searches.fresh_states(searches.fresh_keys(sizes), configs).params)

    learning = {"first": 1, "last": 3, "setting": {}}
    still = {"first": 4, "last": 9, "setting": {"optimizer.learning_rate": 0.0}}
    # From the fourth update on a rate of 0: as if training ended after the third.
    trained, ended, never = params(learning, still), params(learning), params({**still, "first": 1})
    for x, y in zip(trained, ended, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-6)
    assert any(np.any(x != y) for x, y in zip(trained, never, strict=True))


def test_gradient(tmp_path):
    found = run("gradient", tmp_path)
    for problem in ("5-state MDP", "CartPole-v1"):
        plain, best = (row for row in found["estimates"] if row["problem"] == problem)
        assert positive(plain["variance"], best["variance"], best["cosine"], best["milliseconds"])
        assert best["variance"] < plain["variance"] / 3
        assert best["variance_after_one_second"] < plain["variance_after_one_second"]
    assert found["speed"]["relative_difference"] < 1e-4
    assert "leave_one_out" in (tmp_path / "gradient.md").read_text()


def test_seeds(tmp_path):
    (point,) = run("seeds", tmp_path)["points"]
    assert point["num_seeds"] == 4
    for line in (point["seeds"], point["one_run"]):
        assert positive(line["steps_per_second"], line["memory_estimate"], line["num_steps"])
    assert point["seeds"]["m"] * 4 == point["one_run"]["m"]


def test_scaling(tmp_path):
    found = run("scaling", tmp_path)
    points = [(p["devices"], p["processes"], p["scaling"], p["m"]) for p in found["points"]]
    one, two = [(1, 1, "strong", 16), (1, 1, "weak", 8)], [(2, 1, "strong", 16), (2, 1, "weak", 16)]
    assert points == [*one, *two, (2, 2, "strong", 16)]
    steps = {p["num_steps"] for p in found["points"] if p["scaling"] == "strong"}
    assert len(steps) == 1  # the same trajectories on any number of devices and processes
    assert positive(found["two_processes"], *(p["speed_up"] for p in found["points"]))


def test_time_to_solve(tmp_path):
    found = run("time_to_solve", tmp_path)
    cold, warm = found["systems"]
    assert cold["rows"][0]["reached"]
    assert warm["rows"][0]["reached"]
    assert warm["medians"]["compile"] < cold["medians"]["compile"]


def test_limits(tmp_path):
    found = run("limits", tmp_path)
    for name in ("one", "all"):
        assert positive(*found["parts"][name].values(), *found["limits"][name].values())
        assert 0 < found["share_of_product"][name] < 1
    assert 0.5 < sum(found["operations"].values()) <= 1.01


def test_algorithms(tmp_path):
    found = run("algorithms", tmp_path)
    assert found["points"][0]["name"] == "the job"
    for point in found["points"]:
        assert positive(point["train"]["steps_per_second"], point["ceiling"]["steps_per_second"])
    assert "the job" in (tmp_path / "algorithms.md").read_text()


def test_accelerator(tmp_path):
    found = run("accelerator", tmp_path)
    for platform in ("accelerator", "cpu"):
        (point,) = found[platform]["points"]
        assert positive(point["steps_per_second"], point["compile_seconds"])
        assert point["same_bits"]
    assert "2 seeds" in (tmp_path / "accelerator.md").read_text()
    assert not list(tmp_path.glob("accelerator-*.json"))


def test_zoo(tmp_path):
    (point,) = run("zoo", tmp_path)["points"]
    assert point["env_steps"] == 1024
    assert len(point["sampled"]) == len(point["mode"]) == 2
    assert positive(*point["sampled"], *point["mode"])
    assert "CartPole-v1" in (tmp_path / "zoo.md").read_text()


def make_zoo(folder):
    command = [sys.executable, "benchmarks/make_zoo.py", "--quick", "--out", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return (folder / "Catch-bsuite" / "card.json").read_text()


def test_make_zoo(tmp_path, monkeypatch):
    card = make_zoo(tmp_path)
    assert json.loads(card)["num_updates"] == 5
    assert make_zoo(tmp_path) == card  # the policy that is there is kept
    monkeypatch.setattr(entries, "FOLDER", tmp_path)
    state, config = pgjax.load_policy("zoo/Catch-bsuite")
    trained, _ = pgjax.load(tmp_path / "runs" / "Catch-bsuite-0")
    jax.tree.map(np.testing.assert_array_equal, state.params, trained.params)
    assert config.num_updates == 5


def test_act(tmp_path):
    points = run("act", tmp_path)["points"]
    assert [point["action"] for point in points] == ["mode", "sample"] * 2
    for point in points:
        assert positive(point["lowest_us"], point["first_seconds"])
        assert point["lowest_us"] <= point["median_us"] <= point["p95_us"]
    assert "batch of 64" in (tmp_path / "act.md").read_text()


def test_export(tmp_path):
    pytest.importorskip("onnxruntime")
    found = quick("export", tmp_path)
    assert [point["action"] for point in found["points"]] == ["sample", "mode"]
    for point in found["points"]:
        assert point["differences"].keys() == {"numpy", "onnx", "stablehlo"}
    assert 0 <= found["largest"] <= 1e-5
    assert "CartPole-v1" in (tmp_path / "export.md").read_text()


def test_memory(tmp_path):
    (point,) = run("memory", tmp_path)["points"]
    assert point["cell"] == "MinGRU"
    assert len(point["returns"]) == 2
    assert len(point["curve"]) == 3
    assert all(-5.0 < x < 4.0 for x in point["returns"])
    assert "T-maze" in (tmp_path / "memory.md").read_text()


def test_the_t_maze_pays_for_the_way_that_the_sign_said(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    t_maze = importlib.import_module("t_maze")
    env, params = t_maze.TMaze(), t_maze.TMazeParams(length=2, max_steps_in_episode=6)
    obs, state = env.reset(jax.random.key(0), params)
    sign = float(obs[0])
    right, wrong = (t_maze.RIGHT, t_maze.LEFT) if sign > 0 else (t_maze.LEFT, t_maze.RIGHT)
    seen, step = [], jax.jit(env.step_env)
    for action in (right, t_maze.FORWARD, t_maze.FORWARD, t_maze.FORWARD):
        obs, state, reward, ended, _ = step(jax.random.key(1), state, action, params)
        seen.append((*obs.tolist(), round(float(reward), 3), bool(ended)))
    wall = [(sign, 0, -0.1, False), (0, 0, 0, False), (0, 1, 0, False), (0, 1, -0.1, False)]
    assert seen == wall
    for action, paid in ((right, 4.0), (wrong, -0.1)):
        _, _, reward, ended, _ = step(jax.random.key(1), state, action, params)
        assert (round(float(reward), 3), bool(ended)) == (paid, True)
    pgjax.check_environment(env)


def test_compile(tmp_path):
    (row,) = run("compile", tmp_path)["rows"]
    assert positive(*(row[phase] for phase in ("import", "trace", "lower", "compile")))
    assert 0 < row["equations"] < row["stablehlo_lines"] < row["hlo_lines"]
    assert positive(row["fusions"], row["loops"])
    assert "linear REINFORCE" in (tmp_path / "compile.md").read_text()


def test_first_run(tmp_path):
    found = run("first_run", tmp_path)
    assert [row["seed"] for row in found["rows"]] == [0, 1]
    for row in found["rows"]:
        assert positive(row["stochastic"], row["run_seconds"], row["steps_per_second"])
        assert row["process_seconds"] > row["run_seconds"] + row["compile_seconds"]
    assert found["solved"] == 0


def test_soak(tmp_path):
    found = run("soak", tmp_path)
    assert positive(*found["memory_mib"], *found["open_files"], *found["speeds"])
    assert len(found["memory_mib"]) == len(found["seconds"]) >= 8
    assert abs(found["files_growth"]) <= 5


def test_mutation_takes_every_estimator_and_objective_once(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    mutation = importlib.import_module("mutation")
    paths = [path for module in mutation.SOURCES for path in mutation.sources(module)]
    folders = [ROOT / "pgjax" / folder for folder in ("estimators", "objectives")]
    members = {file for folder in folders for file in folder.glob("[!_]*.py")}
    assert {ROOT / path for path in paths} == members | {ROOT / "pgjax/policies/distributions.py"}
    assert len(paths) == len(set(paths))
    assert mutation.TESTS.keys() == mutation.SOURCES.keys()
    assert all((ROOT / path).exists() for tests in mutation.TESTS.values() for path in tests)
