"""The nearest memories, and which of them come back."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memkv.errors import InvalidInput
from memkv.recall.choosing import HALF_LIFE, NOTED, STEPS, WHOLE, Candidate, choose, knapsack
from memkv.recall.nearest import Nearest, as_bytes

RNG = np.random.default_rng(0)


def units(count: int, dimensions: int = 8) -> np.ndarray:
    vectors = RNG.normal(size=(count, dimensions)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_what_was_stored_is_found_nearest_first():
    vectors = units(50)
    index = Nearest.of(8, [("s", n, as_bytes(vector)) for n, vector in enumerate(vectors, 1)])
    found = index.search(vectors[6], 3)
    assert (len(index), found[0].address) == (50, ("s", 7))
    by_hand = sorted(range(50), key=lambda i: -vectors[i] @ vectors[6])[:3]
    assert [near.address[1] - 1 for near in found] == by_hand
    assert np.allclose(found[1].vector_D, vectors[by_hand[1]]) and np.isclose(found[0].cosine, 1)


def test_of_equals_the_earlier_comes_first_and_nothing_is_found_in_nothing():
    vector = units(1)
    index = Nearest.of(8, [("s", n, as_bytes(vector[0])) for n in (1, 2, 3)])
    assert [near.address[1] for near in index.search(vector[0], 9)] == [1, 2, 3]
    assert Nearest(8).search(vector[0], 3) == [] and index.search(vector[0], 0) == []


def test_a_memory_of_several_vectors_is_found_once_by_its_nearest():
    vectors = units(6)
    index = Nearest.of(8, [("s", 1, as_bytes(vectors[:3])), ("s", 2, as_bytes(vectors[3:]))])
    first, second = index.search(vectors[4], 2)
    assert (first.address, second.address) == (("s", 2), ("s", 1)) and np.allclose(first.vector_D, vectors[4])
    assert np.isclose(second.cosine, max(vectors[:3] @ vectors[4]), atol=1e-6)


def test_what_is_preferred_comes_before_what_is_a_little_nearer():
    asked, near, far = np.eye(8, dtype=np.float32)[:3]
    stored = [("s", 1, as_bytes(0.8 * asked + 0.6 * near)), ("s", 2, as_bytes(0.7 * asked + 0.7 * far))]
    assert [each.address[1] for each in Nearest.of(8, stored, {("s", 2)}, bonus=0.05).search(asked, 2)] == [1, 2]
    first = Nearest.of(8, stored, {("s", 2)}, bonus=0.15).search(asked, 1)[0]
    assert first.address == ("s", 2) and np.isclose(first.cosine, 0.7), "the bonus is no part of the cosine"


def test_many_vectors_lie_in_lists_and_are_found_all_the_same(monkeypatch):
    monkeypatch.setattr("memkv.recall.nearest.EXACT", 1000)
    vectors = np.repeat(units(100), 40, axis=0) + 0.1 * RNG.normal(size=(4000, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    stored = [("s", n, as_bytes(vectors[2 * n : 2 * n + 2])) for n in range(2000)]
    index = Nearest.of(8, stored, {("s", 7)}, bonus=0.15)
    right = []
    for asked in vectors[::100]:
        cosines = (vectors @ asked).reshape(-1, 2).max(axis=1)
        cosines[7] += 0.15
        near = index.search(asked, 8)
        right.append(len({each.address[1] for each in near} & set(np.argsort(-cosines)[:8].tolist())) / 8)
    assert np.mean(right) > 0.9
    index.add([("new", 1)], vectors[:1])
    assert ("new", 1) in {each.address for each in index.search(vectors[0], 3)}
    assert len({each.address for each in index.search(vectors[0], 5000)}) > 50, "as many as the lists hold"


def test_vectors_of_another_model_are_refused():
    with pytest.raises(InvalidInput, match="8 dimensions"):
        Nearest.of(8, [("s", 1, b"1234")])


def candidate(
    n: int, cosine: float = 0.5, nbytes: int = 100, age: float = 0.0, standing: int = 0, noted: int = 0
) -> Candidate:
    return Candidate(("s", n), nbytes, cosine, age, standing, noted)


def numbers(found: list[tuple[Candidate, str]]) -> list[int]:
    return [each.address[1] for each, _ in found]


def test_what_fits_and_is_worth_most_comes_back_in_the_order_it_was_said():
    found = [candidate(1, 0.6, 300, age=30), candidate(2, 0.6, 150, age=20), candidate(3, 0.5, 150, age=10)]
    assert numbers(choose(found, units(3), 310)) == [2, 3]
    assert numbers(choose(found, units(3), 140)) == []


def test_only_the_nearest_come_whole_whatever_room_there_is_and_the_others_with_their_notes():
    found = [candidate(n, 0.3 + n / 100, 100, standing=1, noted=20) for n in range(1, 6)]
    came = choose(found, units(5), 10_000)
    assert [form for _, form in came] == ["notes"] * (5 - WHOLE) + ["whole"] * WHOLE
    assert numbers(choose([candidate(n, 0.3 + n / 100) for n in range(1, 6)], units(5), 10_000)) == [4, 5]
    many = [candidate(n, -0.5 + n / 100, 100, standing=1, noted=20) for n in range(1, 25)]
    assert numbers(choose(many, units(24), 10_000)) == list(range(25 - NOTED, 25))


def test_one_that_is_much_nearer_is_worth_more_than_two_that_are_not():
    found = [candidate(1, 0.8, 300, age=30), candidate(2, 0.4, 150, age=20), candidate(3, 0.4, 150, age=10)]
    assert numbers(choose(found, units(3), 310)) == [1]


def test_where_there_is_room_a_memory_comes_whole_and_else_with_its_notes():
    found = [candidate(1, 0.3, 200, 30, 1, noted=20), candidate(2, 0.5, 200, 20, 1, noted=20), candidate(3, 0.4, 200)]
    assert [form for _, form in choose(found, units(3), 1000)] == ["notes", "whole", "whole"]
    assert [(each.address[1], form) for each, form in choose(found, units(3), 250)] == [(1, "notes"), (2, "whole")]
    assert [(each.address[1], form) for each, form in choose(found, units(3), 45)] == [(1, "notes"), (2, "notes")]


def test_notes_come_also_where_the_rest_is_far_from_what_was_said():
    found = choose([candidate(1, -0.1, 200, 1e9, standing=1, noted=20), candidate(2, 0.1, 200, 1e9)], units(2), 1000)
    assert [(each.address[1], form) for each, form in found] == [(1, "notes")]


def test_without_room_comes_what_takes_none():
    assert numbers(choose([candidate(1, nbytes=0), candidate(2, nbytes=1)], units(2), 0)) == [1]


def test_what_is_far_from_it_stays_away_but_a_rule_comes_sooner():
    assert numbers(choose([candidate(1, 0.1, age=1e9), candidate(2, 0.12, age=1e9, standing=1)], units(2), 999)) == [2]


def test_of_two_equally_near_the_recent_one_comes():
    old, new = candidate(1, age=8 * HALF_LIFE), candidate(2, age=0)
    assert numbers(choose([old, new], units(2), 150)) == [2]


def test_what_was_said_twice_comes_once_as_it_was_said_last():
    same = np.repeat(units(1), 2, axis=0)
    assert numbers(choose([candidate(1, 0.9, age=50), candidate(2, 0.8, age=5)], same, 999)) == [2]


@given(
    st.lists(st.lists(st.tuples(st.integers(1, STEPS), st.integers(1, 9), st.booleans()), max_size=2), max_size=5),
    st.integers(0, 3),
)
def test_of_several_forms_at_most_one_is_taken_and_the_best_together(items, most):
    options = [[(size, float(value), counts) for size, value, counts in each] for each in items]
    taken = knapsack(options, STEPS, most)
    found = [each[option] for each, option in zip(options, taken, strict=True) if option is not None]
    every = itertools.product(*[[(0, 0.0, False), *each] for each in options])
    fit = [all_of for all_of in every if fits(all_of, most)]
    assert fits(found, most) and sum(value for _, value, _ in found) == max(
        sum(value for _, value, _ in all_of) for all_of in fit
    )


def fits(taken: Sequence[tuple[int, float, bool]], most: int) -> bool:
    return sum(size for size, _, _ in taken) <= STEPS and sum(counts for _, _, counts in taken) <= most
