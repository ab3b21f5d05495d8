"""Sort rows by one of several keys. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from rlm_cachetrack.errors import ConfigError

Row = TypeVar("Row")


def sorted_by(
    rows: Iterable[Row], keys: Mapping[str, Callable[[Row], Any]], sort: str, *, is_ascending: bool
) -> list[Row]:
    """Return the rows sorted by the key with this name; rows whose value is None come last, in their original order.

    Raises:
        ConfigError: ``sort`` is not one of the names.
    """
    if sort not in keys:
        raise ConfigError(f"sort={sort!r}: expected one of {', '.join(keys)}")
    key, found = keys[sort], list(rows)
    known = sorted((row for row in found if key(row) is not None), key=key, reverse=not is_ascending)
    return known + [row for row in found if key(row) is None]
