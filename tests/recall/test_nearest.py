"""The nearest memories, and which of them come back."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memkv.errors import InvalidInput
from memkv.recall.choosing import HALF_LIFE, STEPS, Candidate, choose, knapsack
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


def test_vectors_of_another_model_are_refused():
    with pytest.raises(InvalidInput, match="8 dimensions"):
        Nearest.of(8, [("s", 1, b"1234")])


def candidate(n: int, cosine: float = 0.5, nbytes: int = 100, age: float = 0.0, standing: bool = False) -> Candidate:
    return Candidate(("s", n), nbytes, cosine, age, standing)


def numbers(found: list[Candidate]) -> list[int]:
    return [each.address[1] for each in found]


def test_what_fits_and_is_worth_most_comes_back_in_the_order_it_was_said():
    found = [candidate(1, 0.9, 300, age=30), candidate(2, 0.6, 150, age=20), candidate(3, 0.5, 150, age=10)]
    assert numbers(choose(found, units(3), 310)) == [2, 3]
    assert numbers(choose(found, units(3), 1000)) == [1, 2, 3]
    assert numbers(choose(found, units(3), 140)) == []


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


@given(st.lists(st.tuples(st.integers(1, STEPS), st.integers(1, 9)), max_size=7))
def test_the_knapsack_is_the_best_there_is(items):
    sizes, worths = [size for size, _ in items], [float(worth) for _, worth in items]
    chosen = knapsack(sizes, worths, STEPS)
    subsets = (c for r in range(len(items) + 1) for c in itertools.combinations(range(len(items)), r))
    best = max(sum(worths[i] for i in c) for c in subsets if sum(sizes[i] for i in c) <= STEPS)
    assert sum(sizes[i] for i in chosen) <= STEPS and sum(worths[i] for i in chosen) == best
