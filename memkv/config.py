"""Sizes in words, the home folder, and strict YAML into frozen dataclasses."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import yaml

from memkv.errors import ConfigError, InvalidInput

Config = TypeVar("Config")

UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


def parse_bytes(size: int | str) -> int:
    """`16 MiB`, `1.5GB` or a plain number of bytes -> bytes.

    Raises:
        InvalidInput: not a positive size.
    """
    text = str(size).strip().lower()
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)", text)
    if match is None or match[2] not in UNITS or (count := int(float(match[1]) * UNITS[match[2]])) <= 0:
        raise InvalidInput(f"{size!r} is not a size in bytes", "Write for example 16MiB, 500KB or 1048576.")
    return count


def format_bytes(count: int | float) -> str:
    """Bytes -> a short text in binary units, three digits: `45.0 MiB`."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(value) < 1024 or unit == "TiB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.{1 if value >= 10 else 2}f} {unit}"
        value /= 1024
    raise AssertionError("unreachable")


def memkv_home() -> Path:
    """The folder for converted models and the default store: `MEMKV_HOME`, or `~/.memkv`."""
    return Path(os.environ.get("MEMKV_HOME") or Path.home() / ".memkv")


def from_mapping(cls: type[Config], data: Mapping[str, Any], where: str = "config") -> Config:
    """Build the frozen dataclass `cls` from `data`; nested mappings become dataclasses too, lists of them tuples.

    Raises:
        ConfigError: an unknown key, a missing one, or a value of the wrong type.
    """
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(data) - set(fields))
    if unknown:
        raise ConfigError(f"{where}: unknown key {unknown[0]!r}", f"Known keys: {', '.join(sorted(fields))}.")
    hints = get_type_hints(cls)
    values: dict[str, Any] = {}
    for name, value in data.items():
        hint = hints[name]
        if isinstance(hint, type) and dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
            values[name] = from_mapping(hint, value, f"{where}.{name}")
        elif (part := part_of(hint)) and isinstance(value, list) and all(isinstance(each, Mapping) for each in value):
            values[name] = tuple(from_mapping(part, each, f"{where}.{name}[{i}]") for i, each in enumerate(value))
        elif fits(value, hint):
            values[name] = tuple(value) if isinstance(value, list) else value
        else:
            kind = getattr(hint, "__name__", hint)
            raise ConfigError(f"{where}: {name} is {value!r}, which is no {kind}", "Correct the value.")
    try:
        return cls(**values)
    except TypeError as error:
        raise ConfigError(f"{where}: {error}", f"Known keys: {', '.join(sorted(fields))}.") from error


def part_of(hint: Any) -> Any:
    """The dataclass of which `hint` is a tuple; None for any other hint."""
    part = get_args(hint)[0] if get_origin(hint) is tuple else None
    return part if dataclasses.is_dataclass(part) else None


def fits(value: object, hint: Any) -> bool:
    """Whether a YAML value is of a field's type; a whole number does for a float, true and false do for neither."""
    if isinstance(hint, UnionType):
        return any(fits(value, part) for part in get_args(hint))
    if hint in (int, float):
        return isinstance(value, (int, float) if hint is float else int) and not isinstance(value, bool)
    if hint in (str, bool, type(None)):
        return isinstance(value, hint)
    return True


def load_yaml(cls: type[Config], path: str | Path) -> Config:
    """Read one YAML file into the frozen dataclass `cls`; an unknown key is an error.

    Raises:
        ConfigError: unreadable file, bad YAML, unknown key, wrong type.
    """
    try:
        data = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"Cannot read {path}: {error}", "Check the path and the YAML.") from error
    if not isinstance(data, Mapping):
        raise ConfigError(f"{path} is not a mapping of keys to values", "See configs/chat.yaml.")
    return from_mapping(cls, data, str(path))
