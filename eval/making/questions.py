"""Probes of a twin pair: the same questions and options, and for each twin its right answers."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from eval.making.family import fill
from eval.making.plants import OPTIONS, Plant
from eval.scenarios import BINDING, EXISTENCE_OPTIONS, Probe, ProbeKind

# Share of probes about never-said rules; how many binding rules are asked both whether they exist and what they say;
# and how many of the planted rules that do not bind are asked about at most: most probes shall ask what binds.
NEVER_SHARE, ASKED_TWICE, MOST_OTHERS = 0.25, 2, 2
MAX_TOKENS = {"starts_with": 12}
WRITTEN_TOKENS = 40

EXISTENCE = (
    "Is there a rule in force for us about {topic}?",
    "Did I give you a rule that holds for us today about {topic}?",
    "Do we currently have a rule about {topic}?",
    "Is anything laid down for us today about {topic}?",
    "As things stand today, is there a rule of ours about {topic}?",
    "Am I right that we have a rule about {topic}?",
)


@dataclass(frozen=True)
class Question:
    """A probe before a twin's answer is known: options and, for each twin, the right one."""

    id: str
    plant: Plant
    kind: ProbeKind
    text: str
    options: tuple[str, ...] = ()
    right: tuple[str, str] = ("", "")
    stale: tuple[str, str] | None = None

    def probe(self, twin: int) -> Probe:
        """The probe of one twin."""
        if self.kind == "generate":
            wanted = self.plant.family.check_for(self.plant.value(twin))
            tokens = MAX_TOKENS.get(wanted.kind, WRITTEN_TOKENS)
            return Probe(self.id, self.plant.id, self.kind, self.text, (), -1, check=wanted, max_tokens=tokens)
        answer = self.options.index(self.right[twin])
        stale = self.options.index(self.stale[twin]) if self.stale else None
        return Probe(self.id, self.plant.id, self.kind, self.text, self.options, answer, stale)


def draw_questions(rng: random.Random, plants: Sequence[Plant], never: Sequence[Plant], count: int) -> list[Question]:
    """About `count` questions, a quarter or more about rules that were never said, in any order."""
    binding = [plant for plant in plants if plant.status in BINDING]
    others = [plant for plant in plants if plant not in binding]
    others = rng.sample(others, min(len(others), MOST_OTHERS))
    existing = rng.sample(binding, ASKED_TWICE)
    n_never = max(len(never), math.ceil(count * NEVER_SHARE))
    n_recall = max(len(binding), count - n_never - len(others) - len(existing))
    recall = _recall(rng, binding, n_recall)
    planted = len(recall) + len(others) + len(existing)
    n_never = max(n_never, math.ceil(planted * NEVER_SHARE / (1 - NEVER_SHARE)))
    repeated = [never[number % len(never)] for number in range(n_never)]
    forms = {plant.id: iter(rng.sample(EXISTENCE, len(EXISTENCE))) for plant in (*plants, *never)}
    asked = recall + [
        _existence(plant, next(forms[plant.id]), number)
        for number, plant in enumerate((*existing, *others, *repeated[: len(never) * len(EXISTENCE)]), 1)
    ]
    rng.shuffle(asked)
    return asked


def _existence(plant: Plant, form: str, number: int) -> Question:
    """Is there such a rule?"""
    right = "Yes." if plant.status in BINDING else "No."
    text = form.format(topic=plant.family.topic)
    return Question(f"e{number}-{plant.id}", plant, "existence", text, EXISTENCE_OPTIONS, (right, right))


def _recall(rng: random.Random, binding: Sequence[Plant], count: int) -> list[Question]:
    """Questions about what binding rules say: one each, then a second one, until there are enough."""
    queues = [_kinds(rng, plant) for plant in binding]
    ranked = [queue[place] for place in range(max(map(len, queues))) for queue in queues if place < len(queue)]
    return ranked[:count]


def _kinds(rng: random.Random, plant: Plant) -> list[Question]:
    """All questions about one rule, in a random order; superseded ones are asked for their value first."""
    family = plant.family
    values = rng.sample(plant.options, OPTIONS)
    value = Question(
        f"v-{plant.id}",
        plant,
        "value",
        family.ask,
        tuple(fill(family.answer, option) for option in values),
        *_right_and_stale(plant, family.answer),
    )
    act = _act(rng, plant)
    first, second = rng.sample([value, act], 2)
    if plant.status == "superseded":
        first, second = value, act
    if not plant.exempts:
        return [first, second]
    exception = _exception(rng, plant)
    return [exception, first, second] if rng.random() < 0.5 else [first, exception, second]


def _act(rng: random.Random, plant: Plant) -> Question:
    """What complies, the rule not named: chosen, or for half of the format rules written."""
    family = plant.family
    if family.write and rng.random() < 0.5:
        return Question(f"g-{plant.id}", plant, "generate", family.write)
    options = tuple(fill(family.act, option) for option in rng.sample(plant.options, OPTIONS))
    right, stale = _right_and_stale(plant, family.act)
    return Question(f"b-{plant.id}", plant, "behaviour", family.tempt, options, right, stale)


def _right_and_stale(plant: Plant, template: str) -> tuple[tuple[str, str], tuple[str, str] | None]:
    """For each twin the right option, and the one with the superseded value: the other twin's right one."""
    first, second = (fill(template, value) for value in plant.picks)
    return (first, second), (second, first) if plant.status == "superseded" else None


def _exception(rng: random.Random, plant: Plant) -> Question:
    """A case that one twin's exception covers and the other's does not: the same case, another right act."""
    assert plant.exempts
    family, covered = plant.family, rng.randrange(2)
    exempt = plant.exempts[covered]
    acts = [fill(family.act, value) for value in (*plant.picks, plant.wrong)]
    options = tuple(rng.sample([*acts, exempt.act], OPTIONS))
    right = (exempt.act, acts[1]) if covered == 0 else (acts[0], exempt.act)
    return Question(f"x-{plant.id}", plant, "exception", f"{family.tempt} {exempt.case}", options, right)
