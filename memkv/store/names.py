"""Names a store accepts, and the JSON it keeps: checked once, at the door."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from typing import Any

from memkv.errors import DamagedStore, InvalidInput

LONGEST_NAME = 128
LONGEST_TEXT = 16 << 20  # bytes of UTF-8 in one memory


def check_name(name: str, what: str) -> str:
    """Return `name` if it may name a tenant or session: 1 to 128 characters, none of them `/` or a control character.

    Raises:
        InvalidInput: it may not.
    """
    if not 1 <= len(name) <= LONGEST_NAME:
        raise InvalidInput(f"A {what} name has 1 to {LONGEST_NAME} characters, not {len(name)}", "Choose another name.")
    # Cc: control, Cs: lone surrogate (cannot be stored as UTF-8), Zl/Zp: line breaks that would forge table rows.
    if "/" in name or any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in name):
        raise InvalidInput(f"The {what} name {name!r} holds '/' or a control character", "Choose another name.")
    if name != name.strip():
        raise InvalidInput(f"The {what} name {name!r} begins or ends with a space", "Choose another name.")
    return name


def parse_address(address: str) -> tuple[str, int]:
    """`SESSION/N` -> (session, n).

    Raises:
        InvalidInput: not of that form.
    """
    session, slash, number = address.rpartition("/")
    if not slash or not number.isascii() or not number.isdigit() or len(number) > 18 or int(number) < 1:
        raise InvalidInput(f"{address!r} is not SESSION/N", "Write for example editorial/7; see `memkv memory ls`.")
    return check_name(session, "session"), int(number)


def check_text(text: str) -> int:
    """The bytes that `text` takes in UTF-8.

    Raises:
        InvalidInput: it has no UTF-8 form, or is longer than 16 MiB.
    """
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise InvalidInput(f"The text holds half a character at {error.start}", "Decode the input as UTF-8.") from error
    if size > LONGEST_TEXT:
        raise InvalidInput(f"The text has {size} bytes, more than {LONGEST_TEXT}", "Split it into several messages.")
    return size


def to_json(data: Mapping[str, Any] | list[Any], what: str) -> str:
    """Compact JSON of `data`.

    Raises:
        InvalidInput: something in it has no JSON form (a tensor, NaN, half a character).
    """
    try:
        text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"{what} cannot be kept as JSON: {error}", "Pass text, numbers, lists and dicts.") from error
    return text


def from_json(text: str) -> Any:
    """What `to_json` wrote.

    Raises:
        DamagedStore: something else is there now.
    """
    try:
        return json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise DamagedStore(f"A stored record is no JSON any more: {error}", "Run `memkv memory verify`.") from error
