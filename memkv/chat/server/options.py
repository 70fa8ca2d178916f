"""Options of a session as a request names them, with schemas that say what there is."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from memkv.compress import QUANTIZERS, READERS, Identity, StreamingLLM

EVICTORS = "|".join((StreamingLLM.name, *READERS))
QUANTIZED = "|".join(QUANTIZERS)
LARGEST = 2**53 - 1  # of a number that JSON carries everywhere

# Folders of policies are not among them: a client is not to look around on the server's disk.
Strategy = Annotated[
    Literal["truncate", "summary", "pinned", "pinned+summary", "trained", "pinned+trained"],
    Field(description="How to compact, as `memkv chat --strategy`."),
]
Codec = Annotated[
    str,
    Field(
        pattern=rf"^({Identity.name}|{QUANTIZED}|({EVICTORS})(:0\.[0-9]*[1-9][0-9]*)?(\+({QUANTIZED}))?)$",
        max_length=64,
        description="How the cache is stored, as `memkv chat --codec`: identity, int4, snapkv:0.5+int4, ...",
    ),
]
Size = (
    Annotated[int, Field(ge=1, le=LARGEST)]
    | Annotated[
        str, Field(pattern=r"^[0-9]{0,4}[1-9][0-9]{0,8}(\.[0-9]{1,3})? ?([KMGkmg][i]?)?[Bb]$", examples=["16 MiB"])
    ]
)
Budget = Annotated[Size, Field(description="Most bytes of live cache, as a number or like `16 MiB`.")]
SessionName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=128,
        pattern=r"^[^/\s\x00-\x1f\x7f-\x9f]([^/\x00-\x1f\x7f-\x9f\u2028\u2029]*[^/\s\x00-\x1f\x7f-\x9f])?$",
        examples=["editorial"],
    ),
]
Count = Annotated[int, Field(ge=1, le=LARGEST)]
