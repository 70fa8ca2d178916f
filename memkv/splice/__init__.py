"""Splicing: stretches of conversation that were read apart, joined into one cache at new positions."""

from memkv.splice.segment import Segment
from memkv.splice.splicer import Splicer

__all__ = ["Segment", "Splicer"]
