"""TRL 1.16 as it should be on a CPU: the head over the vocabulary is computed for the answers only.

TRL leaves prompt and padding out where Triton runs; elsewhere it computes the logits of every position, for compilers
that want one shape, and masks them afterwards. On a CPU that is much of a step's time: answers are a tenth of it all.
"""

from __future__ import annotations

from trl.trainer import utils


def score_answers_only() -> None:
    """Let TRL pick the positions of the answers on any device. Only that choice reads this name in `utils`."""
    utils._use_triton = lambda device: True
