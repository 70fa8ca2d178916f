"""What sharing a prefill saves: all probes of one scenario after one reading, against a reading for each."""

from __future__ import annotations

from eval.bench.harness import Bench, Goal, Row, take_turns
from eval.generate import Config, scenarios
from eval.reading import read_probes
from eval.scenarios import to_message
from eval.systems.base import Memory, constant

# A round reads the conversation once for us and a dozen times for the peer: half a minute.
MOST_ROUNDS = 5


def rows(bench: Bench) -> list[Row]:
    """Seconds for all probes after a full context of about 2,000 tokens."""
    scenario = next(iter(scenarios("dev", 2, "0", Config(tokens=2000))))
    memory = Memory(constant([to_message(turn) for turn in scenario.turns]), None, {})

    def shared() -> None:
        read_probes(bench.model, memory, scenario)

    def from_scratch() -> None:
        for probe in scenario.probes:
            read_probes(bench.model, memory, scenario, [probe])

    bench.say(f"Asking {len(scenario.probes)} probes, together and one by one")
    times = take_turns({"ours": shared, "peer": from_scratch}, min(bench.rounds, MOST_ROUNDS), warmup=0)
    return [
        Row(
            f"{len(scenario.probes)} probes on one conversation",
            times["ours"],
            times["peer"],
            goal=Goal("speedup", 5.0),
            peer_name="each from scratch",
        )
    ]
