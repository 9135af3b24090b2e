"""Changes of a resumed run: floats may change, and no part of the program."""

import argparse
import contextlib
import json
import re

import jax
import optax
import pytest

import pgjax
from pgjax.cli import flags, parsers
from pgjax.core.schedules import Schedule
from pgjax.runs import config_json, folders, resumed_changes

_DECAY = pgjax.Schedule(optax.linear_schedule, init_value=1e-2, end_value=0.0, transition_steps=5)
REINFORCE = pgjax.reinforce("Catch-bsuite")
ACROBOT = pgjax.natural_policy_gradient("Acrobot-v1", network=pgjax.Recurrent(pgjax.MLP((8,)), 8))
WRAPPED = pgjax.ppo(
    pgjax.StickyActions(pgjax.FrameStack("CartPole-v1", frames=2), probability=0.25),
    critic=pgjax.Critic(network=pgjax.MLP((4,)), value_clip=0.5),
    **{"optimizer.learning_rate": _DECAY, "env_params.gravity": 9.0},
)
CONFIGS = {"reinforce": REINFORCE, "recurrent": ACROBOT, "wrapped": WRAPPED}


def check(changes, config=REINFORCE, **saved):
    saved = {**json.loads(json.dumps(config_json.to_dict(config))), **saved}
    resumed_changes.check("run", changes, saved, config, folders.SETTINGS)


def test_an_environment_whose_class_has_moved_to_a_module_is_the_same_one():
    check({"env.custom": ["__main__.Mine #0f", "mine.Mine #0f"]})
    for other in ("mine.Other #0f", "mine.Mine #1f", None):
        with pytest.raises(ValueError, match="environment of a run cannot change"):
            check({"env.custom": ["__main__.Mine #0f", other]})


def test_an_object_of_ones_own_may_have_other_floats():
    check({"objective.custom": ["__main__.Mine(a=0.5, n=3)", "mine.Mine(a=1e-05, n=3)"]})
    for other in ("mine.Mine(a=0.5, n=4)", "mine.Other(a=0.5, n=3)"):
        with pytest.raises(ValueError, match=r"objective\.custom cannot change when a run goes on"):
            check({"objective.custom": ["__main__.Mine(a=0.5, n=3)", other]})


def static_fields(node, prefix=""):
    """The dotted paths of a config that are no floats, and another value for each."""
    for name, value in config_json.to_dict(node).items() if not prefix else node.items():
        path = f"{prefix}{name}"
        if isinstance(value, dict) and "schedule" not in value:
            yield from static_fields(value, f"{path}.")
        elif isinstance(value, (bool, str)) or value is None or isinstance(value, list):
            yield path, value, "another"
        elif isinstance(value, int) and path != "num_updates":
            yield path, value, value + 1


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_no_part_of_the_program_may_change(config):
    fields = list(static_fields(config))
    assert {"sampler.type", "network.type", "time_aware", "ascent.type"} <= {f for f, *_ in fields}
    for path, old, new in fields:
        if path != "env_params":
            with pytest.raises(ValueError, match=re.escape(path) if "env." not in path else "env"):
                check({path: [old, new]}, config)


def test_floats_their_schedules_and_the_length_may_change():
    path, settings = "optimizer.learning_rate", {"stop_at_return": None, "metrics_every": 1}
    for old, new in (
        (WRAPPED, WRAPPED.replace(num_updates=9, **{"objective.epsilon": 0.1})),
        (WRAPPED, WRAPPED.replace(**{path: 0.5, "env_params.gravity": 8.0})),
        (WRAPPED, WRAPPED.replace(**{"env.probability": 0.5, "critic.value_clip": 0.1})),
        (REINFORCE, REINFORCE.replace(**{path: _DECAY})),
        (ACROBOT, ACROBOT.replace(**{"env_params.dt": 0.1})),
    ):
        saved = json.loads(json.dumps(config_json.to_dict(old)))
        changes = folders.changes(saved, new, settings, settings)
        assert changes
        resumed_changes.check("run", changes, saved, new, folders.SETTINGS)
    assert changes == {"env_params.dt": [0.2, 0.1]}
    for absent, present in ((None, 0.5), (0.5, None), (None, _DECAY)):
        bound = "optimizer.max_gradient_norm"
        old, new = (WRAPPED.replace(**{bound: value}) for value in (absent, present))
        saved = json.loads(json.dumps(config_json.to_dict(old)))
        changes = folders.changes(saved, new, settings, settings)
        with pytest.raises(ValueError, match=f"{bound}.* cannot change when a run goes on"):
            resumed_changes.check("run", changes, saved, new, folders.SETTINGS)


def test_a_wrappers_numbers_may_change_and_its_sizes_may_not():
    env = pgjax.FrameStack(pgjax.Randomized("CartPole-v1", {"gravity": pgjax.Uniform(5, 9)}), 2)
    old, settings = pgjax.Config(env), {"stop_at_return": None}
    saved = json.loads(json.dumps(config_json.to_dict(old)))
    for path, value, message in (
        ("env.env.distributions.gravity.low", 6.0, None),
        ("env.frames", 3, "env.frames cannot change when a run goes on, from 2 to 3"),
        ("env.env.distributions", {"length": pgjax.Uniform(5, 9)}, "env.env.distributions"),
    ):
        new = old.replace(**{path: value})
        changes = folders.changes(saved, new, settings, settings)
        assert len(changes) == 1
        with (
            contextlib.nullcontext()
            if message is None
            else pytest.raises(ValueError, match=message)
        ):
            resumed_changes.check("run", changes, saved, new, folders.SETTINGS)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_the_help_lists_what_may_change_alone(config):
    parser = parsers.resume()
    flags.add_settings(parser, resuming=True)
    known = {flag: action for action in parser._actions for flag in action.option_strings}
    shown = {flag for flag, action in known.items() if action.help != argparse.SUPPRESS}
    leaves = jax.tree_util.tree_leaves_with_path(config, is_leaf=lambda x: isinstance(x, Schedule))
    floats = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves]
    may = {"--" + path.replace("_", "-") for path in (*floats, "num_updates")} & set(known)
    parts = [path for path, value, _ in static_fields(config) if value is not None]
    may_not = {"--" + path.replace("_", "-") for path in parts if path != "env"} & set(known)
    assert {"--num-updates", "--optimizer.learning-rate"} <= may <= shown
    assert may_not
    assert not may_not & shown
    assert "(default: as the run has it)" in known["--optimizer.learning-rate"].help
