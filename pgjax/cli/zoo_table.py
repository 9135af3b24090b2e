"""The command that lists the zoo, or prints a policy's card."""

from typing import Any

from pgjax.cli import parsers, printing, run_tables
from pgjax.runs.zoo import entries

_HEADER = ("policy", "algorithm", "return (95 % interval)", "steps", "params")


def zoo(arguments: list[str]) -> int:
    """Lists the policies of the zoo in a table, or prints the card of one."""
    options = parsers.zoo().parse(arguments)
    if options.policy is None:
        cards = entries.zoo()
    else:
        prefix = f"{entries.PREFIX}/"
        cards = (entries.card(prefix + options.policy.removeprefix(prefix)),)
    if options.json:
        printing.print_json({"policies": list(map(_as_json, cards))})
    elif options.policy is None:
        _print_table(cards)
    else:
        print(cards[0].name)
        printing.print_rows(_rows(cards[0]))
    return 0


def _print_table(cards: tuple[entries.ZooPolicy, ...]) -> None:
    for line in run_tables.lines([list(_HEADER), *map(_row, cards)]):
        print(line)
    print(
        "\n`pgjax zoo POLICY` prints a card with its command, --json all of them;"
        "\n`pgjax evaluate zoo/POLICY`, render, export and pgjax.Agent.load take them"
    )


def _row(card: entries.ZooPolicy) -> list[str]:
    """The cells of a policy; its name without the zoo's."""
    counts = printing.short(card.env_steps), printing.short(card.parameters)
    name = card.name.removeprefix(f"{entries.PREFIX}/")
    return [name, card.algorithm, _return_text(card.stochastic), *counts]


def _return_text(value: entries.ZooReturn) -> str:
    low, high = value.interval
    return f"{value.mean:.4g} ({low:.4g} to {high:.4g})"


def _rows(card: entries.ZooPolicy) -> dict[str, str]:
    """Names and values of a card."""
    others = len(card.seeds) - 1
    best = f", the best of {len(card.seeds)} in other episodes" if others else ""
    return {
        "environment": card.environment,
        "algorithm": card.algorithm,
        "parameters": f"{card.parameters:,}",
        "environment steps": f"{card.env_steps:,}, {card.num_updates} updates",
        "return, stochastic": _return_text(card.stochastic),
        "return, deterministic": _return_text(card.deterministic),
        "episodes evaluated": f"{card.stochastic.episodes} each",
        "seed": f"{card.seed}{best}",
        "made by": card.command,
        "versions": ", ".join(f"{name} {x}" for name, x in card.versions.items()),
        "date": card.date,
    }


def _as_json(card: entries.ZooPolicy) -> dict[str, Any]:
    """A card as JSON types."""
    returns = {kind: getattr(card, kind)._asdict() for kind in ("stochastic", "deterministic")}
    return card._asdict() | returns
