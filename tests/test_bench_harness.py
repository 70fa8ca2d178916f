"""The benchmark's arithmetic: goals, spread, turns."""

import math

import pytest

from eval.bench.harness import Goal, Row, goal_text, percentile, spread, take_turns


@pytest.mark.parametrize(
    ("goal", "ours", "peer", "met"),
    [
        (Goal("ratio", 1.5), 60.0, 40.0, True),
        (Goal("ratio", 1.5), 60.1, 40.0, False),
        (Goal("speedup", 30), 50.0, 1500.0, True),
        (Goal("speedup", 30), 50.1, 1500.0, False),
        (Goal("at_most", 200), 199.0, math.nan, True),
        (Goal("at_most", 200), 201.0, math.nan, False),
        (Goal("at_least", 500), 501.0, math.nan, True),
        (Goal("at_least", 500), 499.0, math.nan, False),
    ],
)
def test_a_goal_is_met_or_not(goal, ours, peer, met):
    assert goal.met(ours, peer) is met
    row = Row("row", [ours], [] if math.isnan(peer) else [peer], goal=goal)
    assert row.to_json()["met"] is met
    assert goal_text(row).endswith("yes" if met else "NO")


def test_a_missing_peer_never_meets_a_goal_against_it():
    assert Row("row", [1.0], [], goal=Goal("ratio", 2)).to_json()["met"] is False


def test_percentiles_lie_between_the_samples():
    samples = [5.0, 1.0, 3.0, 2.0, 4.0]
    assert [percentile(samples, percent) for percent in (0, 10, 50, 90, 100)] == [1.0, 1.4, 3.0, 4.6, 5.0]
    assert spread(samples) == "3 [1.4-4.6]" and spread([7.0]) == "7" and spread([]) == ""


def test_contenders_take_turns_and_may_time_themselves():
    calls = []

    def contender(name, own_time):
        calls.append(name)
        return own_time

    times = take_turns({"a": lambda: contender("a", None), "b": lambda: contender("b", 7.5)}, rounds=3, warmup=1)
    assert calls == ["a", "b", "b", "a", "a", "b", "b", "a"], "the order rotates"
    assert times["b"] == [7.5, 7.5, 7.5] and len(times["a"]) == 3 and all(0 <= time < 1000 for time in times["a"])
