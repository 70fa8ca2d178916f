"""`python -m eval.bench.many_sessions`: what a turn costs with 10 to 1,000 earlier sessions behind it. Writes a chart.

Each earlier session is one of the evaluation's generated ones, of about 250 tokens. A turn finds the memories that its
message is near, takes in what fits an eighth of the budget, reads the message, and writes one token. Finding is timed
apart: it is all that may grow with the number of sessions.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import tyro

from eval.bench.harness import ROOT, machine, percentile, spread, take_turns
from eval.generate import Config, generate
from eval.scenarios import Meeting
from memkv import HybridModel, MemoryStore, Session
from memkv.compaction import Pinned
from memkv.recall.noting import noted
from memkv.recall.stretch import of_user
from memkv.session.long_term import stretches
from memkv.store import NewMemory, TenantStore

PAST = (10, 30, 100, 300, 1000)  # sessions
A_SCENARIO = Config(tokens=3000, rounds=1, meetings=12, rules=9, never=3, probes=18)
QUESTION = "Who has to agree before something goes out, and how is it to be worded?"
BUDGET = "128 MiB"
FINDING, REST = "finding memories", "the rest of the turn"


@dataclass(frozen=True)
class Options:
    """Time a turn behind 10 to 1,000 sessions.

    Attributes:
        out: SVG or PNG file; the figures go beside it as JSON.
        rounds: turns of each.
        past: numbers of earlier sessions.
    """

    out: Path = ROOT / "build" / "many_sessions.svg"
    rounds: int = 15
    past: tuple[int, ...] = PAST


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, draw."""
    options = tyro.cli(Options, prog="python -m eval.bench.many_sessions", description=__doc__, args=arguments)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    model = HybridModel.from_pretrained()
    with tempfile.TemporaryDirectory(prefix="sessions-", dir=options.out.parent) as folder:
        with MemoryStore.open(Path(folder) / "store") as store:
            found = timed(model, store, options.past, options.rounds)
    print(f"milliseconds a turn, median [p10-p90] of {options.rounds}; {machine()}")
    for past, parts in found.items():
        said = ", ".join(f"{part} {spread(times)}" for part, times in parts.items())
        print(f"{past:>6,} sessions: {said}")
    options.out.with_suffix(".json").write_text(
        json.dumps({"machine": machine(), "turns": found}, indent=1) + "\n", encoding="utf-8"
    )
    draw(found, options.out)
    print(f"Wrote {options.out}")


def timed(
    model: HybridModel, store: MemoryStore, past: Sequence[int], rounds: int
) -> dict[int, dict[str, list[float]]]:
    """Milliseconds of each turn's parts by the number of earlier sessions; the numbers take turns."""
    found: dict[int, dict[str, list[float]]] = {count: {FINDING: [], REST: []} for count in past}
    tenants = {count: store.tenant(f"behind-{count}") for count in past}
    for count, tenant in tenants.items():
        print(f"Writing {count} sessions", file=sys.stderr)
        fill(model, tenant, count)

    def turn(count: int) -> float:
        finding, rest = one_turn(model, tenants[count])
        found[count][FINDING].append(finding)
        found[count][REST].append(rest)
        return finding + rest

    take_turns({str(count): lambda count=count: turn(count) for count in past}, rounds, warmup=1)
    return {count: {part: times[-rounds:] for part, times in parts.items()} for count, parts in found.items()}


def fill(model: HybridModel, tenant: TenantStore, count: int) -> None:
    """Sessions as they are when they are over, but for the caches, which are made for the memories that come back."""
    for number, meeting in enumerate(islice(meetings(), count)):
        name = f"past-{number:04}"
        record = tenant.create_session(name)
        said = [NewMemory(turn.text, role=turn.role) for turn in meeting.turns]
        tenant.commit(name, record.head, memories=said, context=(), tokens=b"")
        for first, last in stretches(tenant.memories(name), (), model.chat.count, finished=True):
            own = of_user(tenant.stretch(name, first, last))
            notes = noted(model, Pinned(), own, {})  # by the wording alone: the policy would take an hour for them all
            tenant.keep_segment(name, first, last, last - first + 1, None, None, notes)


def meetings() -> Iterator[Meeting]:
    """Sessions of generated scenarios, one after the other."""
    index = 0
    while True:
        yield from generate("editorial", "test", 0, index, A_SCENARIO)[0].meetings
        index += 1


def one_turn(model: HybridModel, tenant: TenantStore) -> tuple[float, float]:
    """Milliseconds to find memories for the second message of a new session, and of the rest of that turn."""
    with Session(model, tenant, "today", context_budget=BUDGET) as session:
        session.turn("Good morning.", max_new_tokens=1)
        spent, find = [], session.long_term.find

        def watched(*arguments: Any) -> Any:
            began = time.perf_counter()
            memories = find(*arguments)
            spent.append((time.perf_counter() - began) * 1e3)
            return memories

        session.long_term.find = watched  # type: ignore[method-assign]
        reply = session.turn(QUESTION, max_new_tokens=1)
    print(
        f"{tenant.id}: {reply.spliced_tokens} tokens came as cache, {reply.prefilled_tokens} were read", file=sys.stderr
    )
    tenant.forget_session("today")
    return sum(spent), reply.seconds * 1e3 - sum(spent)


def draw(found: Mapping[int, Mapping[str, Sequence[float]]], path: Path) -> None:
    """Medians over the number of sessions, with the 10th and 90th percentile."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.subplots()
    for part in (REST, FINDING):
        middles = [statistics.median(parts[part]) for parts in found.values()]
        low, high = ([percentile(parts[part], percent) for parts in found.values()] for percent in (10, 90))
        axes.plot(list(found), middles, marker="o", label=part)
        axes.fill_between(list(found), low, high, alpha=0.2)
    axes.set(xscale="log", ylim=(0, None), xlabel="earlier sessions of the user", ylabel="milliseconds a turn")
    axes.set_xticks(list(found), [f"{count:,}" for count in found])
    axes.minorticks_off()
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path)


if __name__ == "__main__":
    main()
