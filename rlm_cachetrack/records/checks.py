"""Checks of values that a caller gives: times, names, numbers, JSON, outcomes and tags. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from rlm_cachetrack.errors import RecordError, safe_repr

_INT4_MAX = 2**31 - 1
# PostgreSQL rejects keys of more than 2,704 bytes, and query_id is the only key column without a fixed size.
_QUERY_ID_BYTES = 2000
MAX_JSON_DEPTH = 64
"""The limit on nested mappings and lists, far below the recursion limits of Python and of PostgreSQL's stack."""
MAX_JSON_BYTES = 1 << 20
MAX_TAGS = 16
MAX_TAG_NAME_LENGTH = 64
MAX_TAG_LENGTH = 256
_LABEL_LENGTH = 256
_AS_TEXT = (str, int, float, Decimal, date, UUID)


def aware(value: object, name: str) -> datetime:
    """Convert an aware datetime, or ISO 8601 text with an offset, to UTC.

    Raises:
        RecordError: The value is not a datetime, or it is naive.
    """
    moment = value
    if isinstance(moment, str):
        try:
            moment = datetime.fromisoformat(moment)
        except ValueError:
            raise RecordError(f"{name}={safe_repr(value)}: expected an ISO 8601 date and time with an offset") from None
    if not isinstance(moment, datetime):
        raise RecordError(f"{name}={safe_repr(value)}: expected a datetime, not {type(value).__name__}")
    if moment.tzinfo is None or _offset(moment) is None:
        raise RecordError(
            f"{name}={safe_repr(value)} is naive, so its meaning depends on the machine's time zone. "
            "Use datetime.now(timezone.utc), or give it a tzinfo"
        )
    try:
        return moment.astimezone(UTC)
    except Exception as exc:  # outside the years 1 to 9999 in UTC; or the caller's tzinfo raises
        raise RecordError(f"{name}={safe_repr(value)}: expected a moment from year 1 to 9999 in UTC") from exc


def shifted(moment: datetime, by: timedelta) -> datetime:
    """Return an aware moment plus an interval, at most the first or last moment that a datetime can represent."""
    try:
        return moment + by
    except OverflowError:
        return (datetime.max if by > timedelta(0) else datetime.min).replace(tzinfo=moment.tzinfo)


def _offset(moment: datetime) -> object:
    try:
        return moment.utcoffset()
    except Exception:  # raised by the caller's tzinfo
        return None


def checked_query_id(query_id: object) -> str:
    """Return ``query_id`` as it is stored.

    Raises:
        RecordError: ``query_id`` is not text, is empty, or is too long for a table's key.
    """
    if not isinstance(query_id, str) or not query_id:
        raise RecordError(f"query_id={safe_repr(query_id)}: expected a non-empty string")
    text = clean_text(query_id)
    if (size := len(text.encode())) > _QUERY_ID_BYTES:
        raise RecordError(
            f"query_id={query_id[:40]!r}… has {size} bytes: expected a name of at most {_QUERY_ID_BYTES}; "
            "what belongs to a run but does not name it can go into its metadata"
        )
    return text


def checked_json(value: object, name: str) -> dict[str, Any] | None:
    """Return a mapping as a plain dict; None is returned as None.

    Raises:
        RecordError: The value is not a mapping, JSON cannot represent it, or it is too deep or too large.
    """
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise RecordError(f"{name} is a {type(value).__name__}: expected a mapping")
    try:
        plain = dict(value)
        if is_deeper(plain, MAX_JSON_DEPTH):
            raise RecordError(f"{name} is nested more than {MAX_JSON_DEPTH} levels deep")
        size = len(json.dumps(plain, default=str))
    except RecordError:
        raise
    except (TypeError, ValueError, RecursionError) as exc:
        raise RecordError(f"{name} cannot be written as JSON: {exc}") from exc
    except Exception as exc:  # raised by a method of the caller's objects
        raise RecordError(f"{name} cannot be written as JSON: {type(exc).__name__}") from exc
    if size > MAX_JSON_BYTES:
        raise RecordError(f"{name} has {size} bytes as JSON: expected at most {MAX_JSON_BYTES}")
    return plain


def is_deeper(value: object, levels: int) -> bool:
    """Return True if mappings and lists are nested more than ``levels`` deep."""
    if isinstance(value, Mapping):
        items: Iterable[object] = value.values()
    elif isinstance(value, (list, tuple)):
        items = value
    else:
        return False
    return levels <= 0 or any(is_deeper(item, levels - 1) for item in items)


def check_json_list(name: str, value: object) -> None:
    """Check that a value is a list that JSON can represent, or None; else raise :class:`RecordError`."""
    if value is None:
        return
    if not isinstance(value, (list, tuple)):
        raise RecordError(f"{name} is a {type(value).__name__}: expected a list")
    checked_json({name: list(value)}, name)


def checked_outcome(success: object, score: object, label: object) -> dict[str, Any]:
    """Return the values of an outcome as they are journaled.

    Raises:
        RecordError: A value has the wrong type, the score is not finite, or all three are None.
    """
    if success is None and score is None and label is None:
        raise RecordError("an outcome needs success, score or label")
    if not isinstance(success, bool | None):
        raise RecordError(f"success={safe_repr(success)}: expected True, False or None")
    if score is not None:
        if isinstance(score, bool) or not isinstance(score, (int, float)):
            raise RecordError(f"score={safe_repr(score)}: expected a number or None")
        if not _is_finite(score):
            raise RecordError(f"score={safe_repr(score)}: expected a finite number")
    if label is not None and (not isinstance(label, str) or not label or len(label) > _LABEL_LENGTH):
        raise RecordError(f"label={safe_repr(label)}: expected a text of 1 to {_LABEL_LENGTH} characters, or None")
    return {"success": success, "score": score, "label": None if label is None else clean_text(label)}


def checked_tags(tags: object) -> dict[str, str] | None:
    """Return tags as they are stored; None is returned as None. Numbers and booleans become text.

    Raises:
        RecordError: ``tags`` is not a mapping, has more than 16 keys, or a key or value is not a short text.
    """
    if tags is None:
        return None
    if not isinstance(tags, Mapping):
        raise RecordError(f"tags={safe_repr(tags)}: expected a mapping such as {{'user': 'u-17'}}")
    if len(tags) > MAX_TAGS:
        raise RecordError(f"{len(tags)} tags: expected at most {MAX_TAGS}")
    return dict(_checked_tag(name, value) for name, value in tags.items())


def _checked_tag(name: object, value: object) -> tuple[str, str]:
    if not isinstance(name, str) or not 0 < len(name) <= MAX_TAG_NAME_LENGTH:
        raise RecordError(f"tag {safe_repr(name)}: expected a name of 1 to {MAX_TAG_NAME_LENGTH} characters")
    if not isinstance(value, (str, int, float)):
        raise RecordError(f"tag {name}={safe_repr(value)}: expected a text, a number, True or False")
    try:
        text = str(value).lower() if isinstance(value, bool) else str(value)
    except ValueError:  # a whole number of more than 4,300 digits
        raise RecordError(f"tag {name}: its value is too large a number") from None
    if len(text) > MAX_TAG_LENGTH:
        raise RecordError(f"tag {name}: its value has {len(text)} characters, expected at most {MAX_TAG_LENGTH}")
    return clean_text(name), clean_text(text)


def merge_tags(*layers: Mapping[str, str] | None) -> Mapping[str, str] | None:
    """Return the tags of all layers, at most 16; None without any.

    Args:
        *layers: Tags, the inner ones first: they replace outer ones of the same name, and are kept first.
    """
    found: Mapping[str, str] | None = None
    for tags in layers:
        if tags:
            found = {**tags, **found} if found else tags
    if found is None or len(found) <= MAX_TAGS:
        return found
    kept: dict[str, str] = {}
    for tags in filter(None, layers):
        missing = [name for name in tags if name not in kept]
        room = MAX_TAGS - len(kept)
        kept.update({name: tags[name] for name in missing[max(0, len(missing) - room) :]})
    return kept


def clean_text(value: object) -> str:
    """Return the text without characters that PostgreSQL rejects: NUL and lone surrogates."""
    text = value if isinstance(value, str) else str(value)
    if text.isascii() and "\x00" not in text:
        return text
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def check_text(name: str, value: object) -> None:
    """Check that a value is text, or a number, moment or id that becomes text, or None; else raise a RecordError."""
    if value is not None and not isinstance(value, _AS_TEXT):
        raise RecordError(f"{name}={safe_repr(value)}: expected a text or None")


def check_count(name: str, value: object) -> None:
    """Check that a value is a whole number that fits its column, or None; else raise :class:`RecordError`."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise RecordError(f"{name}={safe_repr(value)}: expected a whole number or None")
    if not 0 <= value <= _INT4_MAX:
        raise RecordError(f"{name}={safe_repr(value)}: expected 0 to {_INT4_MAX}")


def check_amount(name: str, value: object) -> None:
    """Check that a value is a finite number of at least 0, or None; else raise :class:`RecordError`."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise RecordError(f"{name}={safe_repr(value)}: expected a number or None")
    if not _is_finite(value) or value < 0:
        raise RecordError(f"{name}={safe_repr(value)}: expected a finite number of at least 0")


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float can represent
        return False
