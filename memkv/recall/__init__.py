"""Recall: what comes back into a context, of this conversation and of earlier ones."""

from memkv.recall.lost import Gone, Stretch, touched

__all__ = ["Gone", "Stretch", "touched"]
