"""TRL 1.16 as it should be where every token counts: two names in its modules, replaced."""

from __future__ import annotations

from trl.trainer import grpo_trainer, utils


def score_answers_only() -> None:
    """The head over the vocabulary is computed for the answers only, on any device.

    TRL leaves prompt and padding out where Triton runs; elsewhere it computes the logits of every position, for
    compilers that want one shape, and masks them afterwards. On a CPU that is much of a step's time: answers are a
    tenth of it all. Only that choice reads this name in `utils`.
    """
    utils._use_triton = lambda device: True


def keep_groups_together() -> None:
    """The answers of a group stay in one backward pass, where their prompt is read once (`train.shared`).

    TRL shuffles them among the passes of an optimizer step, whose gradients are added up anyway.
    """
    grpo_trainer.shuffle_sequence_dict = lambda rows: rows
