"""`python -m eval.generate`: scenarios from a seed, in twin pairs. Writes JSON Lines.

Twins share skeleton, filler, phrasing, families, statuses and questions; each rule's value is drawn differently, so
what complies in one does not in the other. A pair depends on the seed, the split and its number alone, whatever else is
made.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args

import tyro
from blake3 import blake3
from rich.console import Console

from eval.making.days import draw_calendar
from eval.making.family import GENERAL, Family, FamilySplit, families
from eval.making.filler import Talk
from eval.making.layout import bare, blocks, draw_events, filler_for, meeting_starts, meetings_of, round_ends
from eval.making.plants import Plant, draw_never, draw_plants
from eval.making.questions import draw_questions
from eval.scenarios import Domain, Rule, Scenario, Split, Statement, check, write_scenarios
from memkv.errors import ConfigError

SEALED = "MEMKV_SEALED_SEED"
DOMAINS: tuple[Domain, ...] = tuple(domain for domain in get_args(Domain) if domain != "own")
TRAINING: tuple[Split, ...] = ("train", "practice")  # what may be learned from
WORDS_PER_TOKEN = 1 / 1.55  # of the embedded model's tokenizer on these texts
# Compactions -> pairs of 20.
ROUNDS = {1: 8, 2: 6, 5: 4, 10: 2}
FEWEST_RULES, MOST_RULES = 3, 12
OWN_SHARE = 0.6


@dataclass(frozen=True)
class Config:
    """What scenarios are like.

    Attributes:
        tokens: length of a conversation, estimated as 1.55 a word.
        rounds: compactions; None draws them for each pair (1, 2, 5 or 10).
        meetings: sessions over half a year, of about equal length; None draws one to four over some weeks.
        rules: planted rules of a scenario, 3 to 12.
        never: rules that are asked about and were never said.
        probes: questions of a scenario; a few more where that many do not cover its rules.
        domains: taken in turn.
    """

    tokens: int = 2000
    rounds: int | None = None
    meetings: int | None = None
    rules: int = 6
    never: int = 3
    probes: int = 14
    domains: tuple[Domain, ...] = DOMAINS


def scenarios(split: Split, count: int, seed: int | str, config: Config | None = None) -> Iterator[Scenario]:
    """`count` scenarios: pairs, their domains in turn.

    Args:
        split: families of which split.
        count: scenarios; even.
        seed: what everything is drawn from; MEMKV_SEALED_SEED, where set, is used in its place and not written down.
        config: what they are like.

    Raises:
        ConfigError: sizes that do not go together, or damaged data files.
    """
    config = config or Config()
    if count < 2 or count % 2:
        raise ConfigError(f"{count} scenarios are no twin pairs", "Ask for an even number, 2 or more.")
    if not config.domains:
        raise ConfigError("no domain is named", f"Name some of {', '.join(DOMAINS)}.")
    for index in range(count // 2):
        yield from generate(config.domains[index % len(config.domains)], split, seed, index, config)


def generate(
    domain: Domain, split: Split, seed: int | str, index: int = 0, config: Config | None = None
) -> tuple[Scenario, Scenario]:
    """One twin pair; the `index`-th of its seed and split.

    Raises:
        ConfigError: sizes that do not go together, or damaged data files.
    """
    config = config or Config()
    secret = os.environ.get(SEALED)
    root = f"{secret or seed}/{split}"
    training = split in TRAINING
    rng = random.Random(f"{root}/{index}")
    name = f"{split}-{index:04}"
    available = families(domain, split)
    _check_sizes(config, len(available), f"{domain}, {split}")

    drawn = _drawn(rng, available, config.rules + config.never)
    calendar = draw_calendar(rng, config.meetings)
    plants = draw_plants(rng, drawn[: config.rules], calendar)
    never = [draw_never(rng, f"n{number}", family) for number, family in enumerate(drawn[config.rules :], 1)]
    events = draw_events(rng, plants)
    phrase_seed = rng.random()
    said = [exchange for twin in (0, 1) for exchange in bare(events, twin, phrase_seed, training)]
    words = config.tokens * WORDS_PER_TOKEN - sum(block.words for block in said) / 2
    filler = filler_for(Talk(domain, rng, training), words, 2 * len(events))
    twins = [blocks(events, filler, twin, phrase_seed, training) for twin in (0, 1)]
    starts = meeting_starts(rng, [block.words for block in twins[0]], len(calendar.meetings))
    n_rounds = _n_rounds(root, index, len(twins[0])) if config.rounds is None else config.rounds
    ends = round_ends([block.words for block in twins[0]], n_rounds, name)
    asked = draw_questions(rng, plants, never, config.probes)

    def twin(side: int) -> Scenario:
        """One of the two."""
        meetings, places = meetings_of(twins[side], starts, calendar)
        turns = [len(block.turns) for block in twins[side]]
        scenario = Scenario(
            id=f"{name}{'ab'[side]}",
            pair=name,
            domain=domain,
            split=split,
            seed=f"sealed:{blake3(secret.encode()).hexdigest()[:12]}" if secret else str(seed),
            meetings=meetings,
            rounds=tuple(sum(turns[:end]) for end in ends),
            asked_on=calendar.asked.isoformat(),
            rules=tuple(_rule(plant, side, places.get(plant.id)) for plant in (*plants, *never)),
            probes=tuple(question.probe(side) for question in asked),
        )
        check(scenario, scenario.id)
        return scenario

    return twin(0), twin(1)


def _check_sizes(config: Config, available: int, where: str) -> None:
    """Raise ConfigError for sizes that do not go together."""
    if not FEWEST_RULES <= config.rules <= MOST_RULES or config.never < 1:
        raise ConfigError(
            f"{config.rules} planted and {config.never} never-said rules cannot be made",
            f"Plant {FEWEST_RULES} to {MOST_RULES}, and ask about 1 or more that were never said.",
        )
    if config.rules + config.never > available:
        raise ConfigError(
            f"{where}: {config.rules} + {config.never} rules, but {available} families",
            "Ask for fewer rules, or add families to eval/making/families.",
        )
    numbers = (config.tokens, config.probes, config.rounds, config.meetings)
    if any(number is not None and number < 1 for number in numbers):
        raise ConfigError("tokens, probes, rounds and meetings are 1 or more", "Correct the number.")


def _drawn(rng: random.Random, available: Sequence[Family], count: int) -> list[Family]:
    """Families in any order; a little more than half are the domain's own, as far as there are enough."""
    general = [family for family in available if family.id.startswith(f"{GENERAL}/")]
    own = [family for family in available if family not in general]
    n_own = min(len(own), max(count - len(general), round(OWN_SHARE * count)))
    drawn = rng.sample(own, n_own) + rng.sample(general, count - n_own)
    rng.shuffle(drawn)
    return drawn


def _n_rounds(seed: str, index: int, n_blocks: int) -> int:
    """How often memory is compacted: as ROUNDS says, with two exchanges or more between compactions."""
    cycle = [rounds for rounds, count in ROUNDS.items() for _ in range(count)]
    random.Random(f"{seed}/rounds/{index // len(cycle)}").shuffle(cycle)
    drawn = cycle[index % len(cycle)]
    return max(rounds for rounds in ROUNDS if rounds == 1 or (rounds <= drawn and 2 * rounds <= n_blocks))


def _rule(plant: Plant, twin: int, place: tuple[int, int] | None) -> Rule:
    """The record of a rule in one twin."""
    family, value = plant.family, plant.value(twin)
    return Rule(
        id=plant.id,
        family=family.id,
        topic=family.topic,
        type=family.type,
        status=plant.status,
        phrasing=plant.phrasing,
        text=plant.text(twin),
        statement=Statement(
            about=family.about,
            value=value,
            others=family.others(value),
            polarity=family.polarity,
            exception=plant.exempts[twin].words if plant.exempts else (),
            other_exceptions=plant.other_exceptions(twin),
        ),
        old_value=plant.old(twin),
        planted_at=place,
        implicit=plant.implicit,
    )


@dataclass(frozen=True)
class Options:
    """Command line of `python -m eval.generate`."""

    out: Path
    """JSON Lines file to write."""
    split: FamilySplit = "test"
    """Families of which split."""
    count: int = 100
    """Scenarios; two make a pair."""
    seed: str = "0"
    """Drawn from; MEMKV_SEALED_SEED takes its place where set."""
    config: Annotated[Config, tyro.conf.arg(name="")] = Config()


def main(options: Options) -> None:
    """Write scenarios and say what they are."""
    made = list(scenarios(options.split, options.count, options.seed, options.config))
    write_scenarios(options.out, made)
    Console(soft_wrap=True).print(f"{account(made)}\nWrote {options.out}.", highlight=False)


def account(made: Sequence[Scenario]) -> str:
    """What a set of scenarios holds, in some lines."""
    rules = {(one.id, rule.id): rule for one in made for rule in one.rules}
    statuses = Counter(rules[one.id, probe.rule].status for one in made for probe in one.probes)
    kinds = Counter(probe.kind for one in made for probe in one.probes)
    planted = Counter(rule.status for rule in rules.values() if rule.status != "never")
    binding = [rule for rule in rules.values() if rule.binds]
    words = [sum(len(turn.text.split()) for turn in one.turns) for one in made]
    implicit = sum(rule.implicit for rule in binding) / len(binding)
    length = f"{sum(words) / len(words):.0f} words each ({min(words)} to {max(words)})"
    lines = (
        f"{len(made)} scenarios in {len({one.pair for one in made})} pairs, {length}",
        f"compactions: {_shares(Counter(len(one.rounds) for one in made))}",
        f"rules planted: {_shares(planted)}; {implicit:.0%} of those that bind are implicit",
        f"probes by kind: {_shares(kinds)}",
        f"probes by status: {_shares(statuses)} (never said: {statuses['never'] / statuses.total():.0%})",
    )
    return "\n".join(lines)


def _shares(counted: Counter[Any]) -> str:
    """`value 120, existence 80`."""
    return ", ".join(f"{name} {count}" for name, count in counted.most_common())


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
