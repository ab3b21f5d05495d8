"""Texts and JSON in the form in which PostgreSQL stores them, bounded, because servers choose many of them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from pydantic_core import to_json

from rlm_cachetrack.records import clean_text

__all__ = ["clean_json", "json_text", "server_json_text", "short_text"]

# An entry of an index has at most 2,704 bytes, and a character has at most four. The model is in several indexes, among
# them those of TimescaleDB's columnstore and hourly sums, whose jobs would fail from then on.
_MAX_CHARACTERS = 500
_MAX_JSON_CHARACTERS = 1 << 20


def short_text(value: object) -> str:
    """Return a name or id as it is stored: without characters that PostgreSQL rejects, and at most 500 characters."""
    text = clean_text(value)
    return text if len(text) <= _MAX_CHARACTERS else f"{text[: _MAX_CHARACTERS - 1]}…"


def server_json_text(value: Any) -> str | None:
    """Return JSON text of an object that a server sent; None for None and for one of more than 1 MiB."""
    text = json_text(value)
    return None if text is None or len(text) > _MAX_JSON_CHARACTERS else text


def json_text(value: Any) -> str | None:
    """Return JSON text that JSONB accepts; None for None."""
    if value is None:
        return None
    try:
        text = to_json(value, inf_nan_mode="null").decode()
    except ValueError:  # a lone surrogate
        text = "\\u0000"
    return json.dumps(clean_json(value), separators=(",", ":")) if "\\u0000" in text else text


def clean_json(value: Any) -> Any:
    """Return the value without content that JSONB rejects: NUL, lone surrogates, and numbers that are not finite."""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {clean_text(key): clean_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean_json(item) for item in value]
    return value
