"""Pretrained attention models as attention/SSM hybrids: Bamba checkpoints with Mamba-2 mixers in place of attention."""
