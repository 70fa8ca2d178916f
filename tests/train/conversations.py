"""Small conversations with rules, read window by window, and a stand-in for a tokenizer."""

from __future__ import annotations

from functools import cache

from train.data import Config, Episode, episodes

SMALL = Config(episodes=4, seed=5, tokens=(500, 700), rules=(5, 8), window=(160, 240))


def words(text: str) -> int:
    """Tokens of a text, about."""
    return round(1.55 * len(text.split()))


@cache
def small_episodes() -> tuple[Episode, ...]:
    """Two pairs."""
    return tuple(episodes(SMALL))
