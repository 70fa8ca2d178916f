"""The probes can be answered from the policy's text, and only the right option can."""

import re

from memkv.chat.policies import POLICIES

SMALL = {"a", "an", "the", "at", "in", "on", "by", "of", "for", "with", "within", "after", "half", "full", "most"}


def words(text):
    return set(re.findall(r"[a-z]+", text.lower()))


def test_four_policies_of_six_rules_with_a_probe_each():
    assert [len(policy.probes) for policy in POLICIES] == [6, 6, 6, 6]
    assert all(f"{number}. " in policy.text for policy in POLICIES for number in range(1, 7))


def test_the_right_option_is_told_apart_by_a_word_of_its_own_rule():
    for policy in POLICIES:
        rules = re.split(r"\d\. ", policy.text)[1:]
        for rule, probe in zip(rules, policy.probes, strict=True):
            shared = set.intersection(*(words(option) for option in probe.options))
            telling = [words(option) - shared - SMALL for option in probe.options]
            assert telling[probe.answer] & words(rule), probe
            if "museums" not in probe.question:  # its rule names two prices, and one of the options is the other
                assert not any(telling[i] & words(rule) for i in range(4) if i != probe.answer), probe


def test_the_position_of_the_right_option_tells_nothing():
    answers = [probe.answer for policy in POLICIES for probe in policy.probes]
    assert all(answers.count(index) == 6 for index in range(4)), answers
    assert all(len(set(probe.options)) == 4 for policy in POLICIES for probe in policy.probes)
