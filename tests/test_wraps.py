"""`--wrap`: which wrappers and grids the words of a command line make; what is refused."""

import jax
import numpy as np
import pytest

import pgjax
from pgjax.cli import flags, parsers, wraps
from pgjax.cli.main import main


def test_wrappers_and_their_options():
    texts = [
        "Randomized:gravity=Uniform:5:15,tau=LogUniform:0.01:0.03,length=0.5,masscart=Choice:1:2",
        "FrameStack:frames=2",
        "StickyActions",
        "ClippedReward:low=-2,high=1e-1",
    ]
    distributions = {
        "gravity": pgjax.Uniform(5.0, 15.0),
        "tau": pgjax.LogUniform(0.01, 0.03),
        "length": pgjax.Choice((0.5,)),
        "masscart": pgjax.Choice((1.0, 2.0)),
    }
    inside = pgjax.FrameStack(pgjax.Randomized("CartPole-v1", distributions), 2)
    expected = pgjax.ClippedReward(pgjax.StickyActions(inside), -2.0, 0.1)
    assert wraps.wrapped("CartPole-v1", texts) == expected


def test_a_command_wraps_its_environment_and_a_grid_reaches_inside():
    arguments = ["CartPole-v1", "--wrap", "StickyActions", "--wrap", "FrameStack:frames=3"]
    _, make_config = flags.read([*arguments, "--grid", "env.frames=1,2"], parsers.sweep())
    config = make_config()
    assert config.env == pgjax.FrameStack(pgjax.StickyActions("CartPole-v1"), 3)
    grid = flags.grid(["env.frames=1,2", "env.env.probability=0,0.5"], config)
    assert grid == {"env.frames": [1, 2], "env.env.probability": [0.0, 0.5]}
    with pytest.raises(ValueError, match=r"unknown setting 'env\.frame'.*'env\.frames'"):
        flags.grid(["env.frame=1"], config)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FrameStak", "unknown wrapper 'FrameStak'; did you mean 'FrameStack'"),
        ("FrameStack:frame=2", "unknown option 'frame' of FrameStack; did you mean 'frames'"),
        ("FrameStack:frames=x", "frames of FrameStack must be a whole number, got 'x'"),
        ("FrameStack:frames=1e999", "frames of FrameStack must be a whole number, got '1e999'"),
        ("FrameStack:frames=0", "env.frames must be at least 1, got 0"),
        ("FrameStack:frames", "--wrap takes NAME:option=value"),
        ("SignReward:x=1", "SignReward has no options, got 'x'"),
        ("StickyActions:probability=x", "probability of StickyActions must be a number"),
        ("StickyActions:probability=2", "env.probability must be a finite number"),
        ("Randomized:gravty=Uniform:5:15", "unknown parameter 'gravty' of CartPole-v1"),
        ("Randomized:gravity=Unifrm:5:15", "unknown distribution 'Unifrm'"),
        ("Randomized:gravity=Uniform:5", "gravity of Randomized must be Uniform:LOW:HIGH"),
        ("Randomized:gravity=x", "gravity of Randomized must be a number, got 'x'"),
        ("Randomized:gravity=Uniform:15:5", "low must be at most"),
        ("Randomized", "must be a dict from a parameter's name"),
        ("Resize", "must be an image"),
    ],
)
def test_wrong_words_are_one_line_and_exit_code_2(text, message, capsys):
    assert main(["train", "CartPole-v1", "--no-compilation-cache", "--wrap", text]) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""


@pytest.mark.slow
def test_a_run_folder_keeps_its_wrappers(tmp_path):
    distributions = {"gravity": pgjax.Uniform(5.0, 15.0)}
    env = pgjax.FrameStack(pgjax.Randomized("CartPole-v1", distributions), 2)
    config = pgjax.Config(env, num_updates=2).replace(**{"sampler.num_trajectories": 4})
    run = pgjax.run(config, 0, tmp_path / "run")
    state, loaded = pgjax.load(tmp_path / "run")
    assert loaded.env == env
    jax.tree.map(np.testing.assert_array_equal, state.params, run.state.params)
    returns = pgjax.render(jax.random.key(0), state, loaded, tmp_path / "a.gif", max_steps=3)
    assert returns.tolist() == [3.0]
    with pytest.raises(ValueError, match="the environment of a run cannot change"):
        pgjax.resume(tmp_path / "run", config=config.replace(env=pgjax.SignReward(env)))
    # A wrapper's numbers may, as those of the config.
    more = config.replace(**{"num_updates": 3, "env.env.distributions.gravity.low": 6.0})
    assert int(pgjax.resume(tmp_path / "run", config=more).state.num_updates) == 3
