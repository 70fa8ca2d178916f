"""Tokens of an answer by what they decide."""

from __future__ import annotations

from train.agreement import COPIED, END, LETTER, kind_of


def test_the_first_token_of_a_line_is_a_decision() -> None:
    text = [
        "A",
        "\n",
        "+",
        " Notes",
        " live",
        ".",
        "\n",
        "AB",
        "\n",
        "~",
        " Now",
        "\n",
        "-",
        " it",
        "\n",
        "LO",
        "ST",
        "</s>",
    ]
    kinds = {at: kind_of(text, at) for at in range(len(text))}
    assert {at for at, kind in kinds.items() if kind == LETTER} == {0, 7}
    assert [kinds[at][0] for at in (2, 9, 12)] == ["+", "~", "-"] and kinds[15] == "LOST"
    assert kinds[17] == END
    assert all(kinds[at] == COPIED for at in (1, 3, 4, 5, 6, 8, 10, 11, 13, 14, 16))


def test_an_answer_that_begins_with_no_change_says_so() -> None:
    assert kind_of(["No", " change", ".", "</s>"], 0) == "No change"
