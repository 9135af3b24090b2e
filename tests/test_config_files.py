"""Config files: read back, merged with an algorithm's config and flags, refused in one line."""

import json
import re
from pathlib import Path

import flax.linen as nn
import optax
import pytest

import pgjax
from pgjax.cli import flags, parsers
from pgjax.cli.main import main
from pgjax.runs import config_files, config_json, folders

PAGE = Path(__file__).parents[1] / "docs" / "guides" / "config_files.md"
FULL = {
    "preset with schedules": pgjax.preset("Reacher-misc"),
    "wrapped": pgjax.ppo(pgjax.FrameStack("Catch-bsuite", frames=2)),
    "of Optax and Flax": pgjax.Config(
        "CartPole-v1", optimizer=optax.rmsprop, network=nn.Dense(features=3)
    ),
    "inner network, env_params": pgjax.actor_critic(
        "CartPole-v1",
        critic=pgjax.Critic(network=pgjax.MLP((5,)), value_clip=0.5),
        **{"env_params.gravity": 3.0},
    ),
}


def configured(*arguments, parser=parsers.train):
    _, make = flags.read([*map(str, arguments)], parser())
    return make()


@pytest.fixture
def write(tmp_path):
    def write(text, name="run.toml"):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


@pytest.mark.parametrize("config", FULL.values(), ids=FULL)
def test_a_config_that_is_printed_is_read_back(config, write):
    assert configured("--config", write(config_files.text(config), "run.json")) == config


def test_print_config_prints_what_the_flags_make_and_stops(capsys, write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["Catch-bsuite", "--algorithm", "ppo", "--optimizer.learning-rate", "1e-4"]
    assert main(["train", *arguments, "--wrap", "FrameStack:frames=2", "--print-config"]) == 0
    file = write(capsys.readouterr().out, "run.json")
    env = pgjax.FrameStack("Catch-bsuite", frames=2)
    assert configured("--config", file) == pgjax.ppo(env, **{"optimizer.learning_rate": 1e-4})
    assert list(tmp_path.iterdir()) == [file]


def test_a_part_changes_the_algorithms_config_and_flags_win(write):
    file = write(
        'algorithm = "ppo"\nnum_updates = 7\nestimator.discount = 0.5\n'
        'network = {hidden_sizes = [8, 4]}\nascent = "GradientStep"\nsampler.length = 16\n'
        "env_params = {gravity = 3.0}\nnormalize_observations = true\n"
    )
    expected = pgjax.ppo(
        "CartPole-v1",
        num_updates=7,
        ascent=pgjax.GradientStep(),
        normalize_observations=True,
        **{
            "estimator.discount": 0.5,
            "network.hidden_sizes": (8, 4),
            "sampler.length": 16,
            "env_params.gravity": 3.0,
        },
    )
    for parser in (parsers.train, parsers.sweep, parsers.tune):
        needed = ["--grid", "num_updates=1"] * (parser is parsers.sweep)
        assert configured("CartPole-v1", "--config", file, *needed, parser=parser) == expected
    changed = configured(
        *("CartPole-v1", "--config", file, "--num-updates", 2, "--sampler.length", 9),
        *("--objective", "ScoreFunction", "--env-params.masscart", "2"),
    )
    assert changed == expected.replace(
        num_updates=2,
        objective=pgjax.ScoreFunction(),
        **{"sampler.length": 9, "env_params.masscart": 2.0},
    )
    sampler = configured("CartPole-v1", "--config", file, "--algorithm", "a2c").sampler
    assert sampler == pgjax.Segments(num_envs=64, length=16)


def test_a_component_of_another_type_begins_with_that_types_fields(write):
    file = write(
        'env = "CartPole-v1"\n[sampler]\ntype = "Segments"\nlength = 4\n'
        '[ascent]\ntype = "TrustRegion"\nmax_kl = "none"\n'
        '[estimator]\ntype = "RewardToGo"\nbaseline = "none"\n'
        '[optimizer.learning_rate]\nschedule = "linear_schedule"\n'
        "arguments = {init_value = 1.0, end_value = 0.0, transition_steps = {share = 0.5}}\n"
        '[critic.network]\ntype = "MLP"\nhidden_sizes = [3]\n'
    )
    config = configured("--config", file)
    assert config.sampler == pgjax.Segments(length=4)
    assert config.ascent == pgjax.TrustRegion(max_kl=None)
    assert config.estimator == pgjax.RewardToGo(baseline="none")
    assert config.optimizer.learning_rate.value(1, num_updates=4) == 0.5
    assert config.critic == pgjax.Critic(network=pgjax.MLP((3,)))


def test_a_runs_config_json_and_a_bare_config_are_taken(write, tmp_path):
    config = FULL["inner network, env_params"]
    folders.write_config(tmp_path, config, {"seed": 3})
    assert configured("--config", tmp_path / "config.json") == config
    file = write(json.dumps(config_json.to_dict(config)), "best.json")
    assert configured("--config", file, "--num-updates", 3) == config.replace(num_updates=3)
    own = {"config": {"env": {"custom": "mine.Mine"}, "num_updates": 4}, "versions": {}}
    file = write(json.dumps(own), "own.json")
    assert configured("CartPole-v1", "--config", file) == pgjax.Config("CartPole-v1", num_updates=4)
    with pytest.raises(ValueError, match=r"only its author has, .* as MODULE:FACTORY"):
        configured("--config", file)


def test_the_pages_files_are_read(write):
    blocks = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) >= 3
    for block in blocks:
        assert isinstance(configured("CartPole-v1", "--config", write(block)), pgjax.Config)


REFUSED = {
    "lr = 3": "unknown key 'lr'; did you mean 'optimizer.learning_rate'",
    "optimizer.lr = 3": "unknown key 'optimizer.lr'; did you mean 'optimizer.learning_rate'",
    'optimizer = "Adamm"': "unknown optimizer 'Adamm'; did you mean 'Adam'",
    "optimizer.type = 3": "optimizer needs its type",
    "optimizer = 3": "optimizer must be a name or a table of fields, got 3",
    'optimizer.learning_rate = "x"': "optimizer.learning_rate must be a number, got 'x'",
    "num_updates = 3.0": "must be an integer known before compilation, got 3.0; write 3",
    "num_updates = 2024-01-01": "num_updates must be an integer",
    "sampler.num_envs = 3": "unknown key 'sampler.num_envs'; did you mean 'sampler.num_traj",
    "env_params = 3": "env_params must be a table of parameters, got 3",
    "env_params.gravty = 3": "did you mean 'gravity'",
    "critic.network.hidden_sizes = [3]": "critic.network: {'hidden_sizes': [3]} is no value",
    'critic.network = {type = "MLP", hiden = 3}': "did you mean 'critic.network.hidden_sizes'",
    'network.type = "os.system"': "unknown module of 'os.system'",
    'optimizer.learning_rate.schedule = "a"': "optimizer.learning_rate: {'schedule': 'a'} is no",
    'optimizer.learning_rate = {schedule = "linear_schedule", arguments = 3}': "must be a table",
    'optimizer.learning_rate = {component = "GAEE"}': "did you mean 'GAE'",
    'algorithm = "pp"': "unknown algorithm 'pp'; did you mean 'ppo'",
    "algorithm = 3": "algorithm must be a name, got 3",
    "format = 2": "run.toml has format 2; this version of pgjax reads format 1",
    "a =": "run.toml cannot be read (Invalid value",
}


@pytest.mark.parametrize(("text", "message"), REFUSED.items(), ids=REFUSED)
def test_a_file_that_cannot_be_taken_is_one_line(text, message, write, capsys):
    assert main(["train", "CartPole-v1", "--config", str(write(text))]) == 2
    printed = capsys.readouterr()
    assert (printed.out, len(printed.err.splitlines())) == ("", 1)
    assert message in printed.err


def test_a_file_of_another_version_ending_or_environment_is_one_line(write, tmp_path, capsys):
    former = {"config": {"env": "CartPole-v1", "clip": 1}, "versions": {"pgjax": "0.0.1"}}
    cases = {
        write(json.dumps(former), "a.json"): "(the file is of pgjax 0.0.1, this is ",
        write("", "a.yaml"): "a config file is a .toml or a .json, got",
        write("[]", "b.json"): "b.json cannot be read (it must be an object, got [])",
        write('env = "my:make"'): "somebody's own code, imported only if you name it: --import my",
        write('env.type = "FrameStac"', "b.toml"): "b.toml: unknown wrapper 'FrameStac'; did you",
        write("num_updates = 3", "c.toml"): "are required: ENV, unless --config has an env",
        tmp_path / "none.toml": "none.toml cannot be read (No such file",
    }
    for file, message in cases.items():
        assert main(["train", "--config", str(file)]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert len(error.splitlines()) == 1
