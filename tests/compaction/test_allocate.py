"""The allocator: one budget for all commitments, and the best use of it."""

from __future__ import annotations

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from memkv.compaction.allocate import Commitment, Prices, Worth, allocate

GAIN = {"verbatim": 1.0, "store": 0.6, "drop": 0.0}


def total(commitments, prices, forms) -> tuple[float, int]:
    """What a choice is worth, and what it takes."""
    worth, tokens = 0.0, 0
    for commitment, price, form in zip(commitments, prices, forms, strict=True):
        worth += commitment.binds * (commitment.noted if form == "note" else GAIN[form])
        tokens += {"verbatim": price.verbatim, "note": price.note}.get(form, 0)
    return worth, tokens


def test_everything_stays_where_there_is_room():
    both = [Commitment(note="a", noted=0.9), Commitment(note="b", noted=0.9)]
    assert allocate(both, [Prices(0, 5), Prices(0, 5)], 10) == ["note", "note"]


def test_where_not_all_fits_the_most_rules_stay_and_the_rest_is_left_to_the_store():
    three = [Commitment(note=name) for name in "abc"]
    assert allocate(three, [Prices(0, 9), Prices(0, 5), Prices(0, 5)], 10) == ["store", "note", "note"]


def test_with_room_to_spare_a_doubtful_note_gives_way_to_the_sentence_itself():
    rule = [Commitment(note="short", verbatim="the whole sentence", noted=0.7)]
    assert allocate(rule, [Prices(20, 5)], 30) == ["verbatim"]
    assert allocate(rule, [Prices(20, 5)], 10) == ["note"]
    assert allocate(rule, [Prices(20, 5)], 3) == ["store"]


def test_what_does_not_bind_is_dropped():
    assert allocate([Commitment(note="a", binds=0.0)], [Prices(0, 1)], 10) == ["drop"]


commitment = st.builds(
    Commitment,
    note=st.sampled_from(["", "n"]),
    verbatim=st.sampled_from(["", "v"]),
    binds=st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    noted=st.sampled_from([0.4, 0.7, 0.95]),
)


@given(st.lists(st.tuples(commitment, st.integers(1, 9), st.integers(1, 9)), max_size=4), st.integers(0, 20))
def test_no_other_choice_within_the_room_is_worth_more(drawn, room):
    commitments = [each for each, _, _ in drawn]
    prices = [Prices(verbatim, note) for _, verbatim, note in drawn]
    forms = allocate(commitments, prices, room, Worth())
    worth, tokens = total(commitments, prices, forms)
    assert tokens <= room

    def possible(each: Commitment) -> list[str]:
        if not each.binds:
            return ["drop"]
        return ["store", *(["note"] if each.note else []), *(["verbatim"] if each.verbatim else [])]

    for other in product(*map(possible, commitments)):
        value, taken = total(commitments, prices, other)
        assert taken > room or value <= worth + 1e-9
