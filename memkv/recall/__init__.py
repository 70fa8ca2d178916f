"""Recall: what comes back into a context, of this conversation and of earlier ones."""
