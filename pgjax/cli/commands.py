"""The commands: arguments in, an exit code out."""

import os
from pathlib import Path

import shtab

from pgjax.cli import diagnosis, evaluating, flags, listing, parsers, printing, startup
from pgjax.cli.run_tables import compare as compare
from pgjax.cli.run_tables import list_runs as list_runs
from pgjax.cli.training_commands import check_options
from pgjax.cli.training_commands import resume as resume
from pgjax.cli.training_commands import sweep as sweep
from pgjax.cli.training_commands import train as train
from pgjax.cli.tuning_commands import tune as tune
from pgjax.cli.zoo_table import zoo as zoo
from pgjax.core.components import check_int, check_seed
from pgjax.environments.suites import table
from pgjax.pictures import plots, rendering
from pgjax.pictures.curves import Curve
from pgjax.runs import checkpoints, folders, sweep_folders
from pgjax.runs.export import exporting, traced
from pgjax.runs.zoo import entries
from pgjax.study import evaluation, memory_estimate
from pgjax.training.config import checked


def evaluate(arguments: list[str]) -> int:
    """Evaluates the policy of a run folder, a checkpoint or the zoo."""
    options = parsers.evaluate().parse(arguments)
    check_options(options)
    evaluating.check_episodes_file(options.episodes_csv)
    flags.import_modules(options.imports)
    state, config = checkpoints.load_policy(options.run, env=options.env)
    memory_estimate.check_episodes("--eval-episodes", checked(config), options.eval_episodes)
    num_updates = int(state.num_updates)
    if not options.json:
        print(f"{config.env}, {num_updates} updates, on {diagnosis.device_line()}")
    results = evaluating.evaluations(
        state, config, options.seed, options.eval_episodes, options.deterministic
    )
    if options.episodes_csv is not None:
        evaluating.write_episodes(options.episodes_csv, results)
    if options.json:
        facts = {"run": str(options.run), "env": str(config.env), "updates": num_updates}
        printing.print_json(facts | evaluating.as_json(results, options.seed))
    else:
        printing.print_rows(evaluating.rows(results))
    return 0


def render(arguments: list[str]) -> int:
    """Draws episodes of a run's policy as a GIF."""
    options = parsers.render().parse(arguments)
    check_seed("--seed", options.seed)
    check_int("--episodes", options.episodes, 1, rendering.MAX_EPISODES)
    check_int("--max-steps", options.max_steps, 1)
    flags.import_modules(options.imports)
    # Gymnasium's pictures come from pygame, which greets, and looks for a sound card.
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    os.environ.setdefault("SDL_AUDIODRIVER", "dummy")
    state, config = checkpoints.load_policy(options.run, env=options.env)
    output = options.output or _output(options.run, "episodes.gif")
    returns = rendering.render(
        evaluation.evaluation_key(options.seed),
        state,
        config,
        output,
        options.episodes,
        options.deterministic,
        options.max_steps,
    )
    print(f"{config.env}, {int(state.num_updates)} updates")
    shown = ", ".join(f"{x:.5g}" for x in returns[:5]) + (", …" if len(returns) > 5 else "")
    printing.print_rows({"returns shown": shown, "picture": str(output)})
    return 0


def export(arguments: list[str]) -> int:
    """Writes a run's policy as another kind of program; 1 where it disagrees with the original."""
    options = parsers.export().parse(arguments)
    output = options.output or _output(options.run, options.format)
    exporting.check(output, options.format)
    check_options(options)
    flags.import_modules(options.imports)
    state, config = checkpoints.load_policy(options.run, env=options.env)
    memory_estimate.check_episodes("--eval-episodes", checked(config), options.eval_episodes)
    traced.exported(state, config, options.deterministic)  # refused before the evaluation compiles
    key = evaluation.evaluation_key(options.seed)
    result = evaluation.evaluate(key, state, config, options.eval_episodes, options.deterministic)
    how = options.format, options.deterministic, result
    written = exporting.export(state, config, output, *how)
    print(f"{config.env}, {int(state.num_updates)} updates")
    difference = f"{written.difference:.3g} from the original, on 1000 observations"
    printing.print_rows({"largest difference": difference, "folder": str(output)})
    return 0 if written.agrees else 1


def _output(run: Path, name: str) -> Path:
    """The default output: in the run's folder, or in the working folder for a policy of the zoo."""
    return Path(f"{run.name}-{name}") if entries.is_named(run) else run / name


def plot(arguments: list[str]) -> int:
    """Draws the learning curves of runs."""
    options = parsers.plot().parse(arguments)
    plots.check_format(options.output)
    records = [record for path in options.runs for record in folders.read_all(path)]
    curves = plots.learning_curves(records, options.output, options.x, options.title, options.y)
    for path in options.runs:
        if sweep_folders.is_sweep(path) and not sweep_folders.is_done(path):
            print(checkpoints.undone(path))
    for record in records:
        if record.dropped:
            print(f"{record.path}: {record.dropped} lines of metrics.csv are not whole, left out")
    several_environments = len({curve.environment for curve in curves}) > 1
    for curve in curves:
        for path in curve.repeated:
            print(f"{path}: the config and the seed of another of these runs, counted once")
        environment = curve.environment if several_environments else ""
        name = ", ".join(filter(None, (environment, curve.label))) or "runs"
        printing.print_rows({name: _curve_text(curve)})
    printing.print_rows({"picture": str(options.output)})
    return 0


def _curve_text(curve: Curve) -> str:
    """The number of seeds, and the last return with its interval."""
    seeds = f"{len(curve.seeds)} seed{'s' * (len(curve.seeds) > 1)}"
    last = f"at the end {curve.middle[-1]:.5g}"
    if curve.low is not None and curve.high is not None:
        last += f" (95 %: {curve.low[-1]:.5g} to {curve.high[-1]:.5g})"
    return f"{seeds}, {last}"


def envs(arguments: list[str]) -> int:
    """Lists environments and suites, or describes one."""
    options = parsers.envs().parse(arguments)
    flags.import_modules(options.imports)
    name = options.name
    if name is None or name in table.SUITES:
        for line in listing.everything() if name is None else listing.suite_names(name):
            print(line)
    else:
        listing.describe(name)
    return 0


def doctor(arguments: list[str]) -> int:
    """Prints versions, devices, what is slow here and why."""
    startup.parser_for("doctor").parse(arguments)
    for line in diagnosis.report():
        print(line)
    return 0


def completion(arguments: list[str]) -> int:
    """Prints a script that completes commands and options in a shell."""
    options = parsers.completion().parse(arguments)
    print(shtab.complete(parsers.everything(), options.shell))
    return 0
