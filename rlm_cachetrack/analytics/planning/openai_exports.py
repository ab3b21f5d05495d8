"""Read OpenAI's exports of usage and costs, as CSV or as JSON of the Usage API, into lines by day, model and tier.

Source: https://platform.openai.com/docs/api-reference/usage (buckets of results), the columns of the dashboard's
exports, and line items reported by users of the Costs API; read 2026-11-23. Fields as in openai 3.57.0,
openai/types/admin/organization/usage_completions_response.py and usage_costs_response.py, read 2026-11-27.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from rlm_cachetrack.errors import ConfigError

# A line item is an optional tier and region, a model and a unit: "gpt-5-2025-08-07, cached input", "gpt-5.6, cache
# writes", "priority | gpt-5.6, output, long context", "gpt-audio-mini audio, input". Other line items are hosted tools:
# "web search tool calls". Fine-tuned models are named by their base: "ft-gpt-4o-2024-08-06, input".
_LINE_ITEM = re.compile(r"(?P<model>.+?)(?: (?:text|audio|image))?, .+", re.IGNORECASE)
_TIERS = ("default", "flex", "priority", "batch", "scale", "fast", "ultrafast")
_TOOL_ITEMS = {"web search": "web_search", "file search": "file_search", "image generation": "image_generation"}

# Kinds of usage by the object of a result, and the APIs of the calls that they count. Fields as in openai 3.57.0,
# openai/types/admin/organization/usage_*_response.py, read 2026-12-01.
APIS_OF_KIND = {
    "completions": ("chat.completions", "completions", "responses", "realtime"),
    "embeddings": ("embeddings",),
    "moderations": ("moderations",),
    "images": ("images",),
    "audio_speeches": ("audio.speech",),
    "audio_transcriptions": ("audio.transcriptions", "audio.translations"),
}
"""The APIs of the calls that each kind of usage counts; an entry also covers the APIs that begin with it and a dot."""
_WITHOUT_CALLS = {
    "vector_stores": "bytes in vector stores",
    "code_interpreter_sessions": "sessions of the code interpreter",
    "file_searches": "uses of file search",
    "web_searches": "uses of web search",
    "decisions": "decisions",
}
_KIND_OF_COLUMN = {  # rows of a CSV file do not name their object
    "images": "images",
    "characters": "audio_speeches",
    "seconds": "audio_transcriptions",
    "num_sessions": "code_interpreter_sessions",
    "usage_bytes": "vector_stores",
    "output_tokens": "completions",
}
_COUNTS = {
    "requests": "num_model_requests",
    "prompt_tokens": "input_tokens",
    "cached_tokens": "input_cached_tokens",
    "cache_write_tokens": "input_cache_write_tokens",
    "completion_tokens": "output_tokens",
}
_DETAILS = {
    "cache_write_12h_tokens": "input_cache_write_12h_tokens",
    "audio_prompt_tokens": "input_audio_tokens",
    "audio_cached_tokens": "input_cached_audio_tokens",
    "audio_completion_tokens": "output_audio_tokens",
    "image_prompt_tokens": "input_image_tokens",
    "image_cached_tokens": "input_cached_image_tokens",
    "image_completion_tokens": "output_image_tokens",
    "images": "images",
    "characters": "characters",
    "seconds": "seconds",
}
"""Parts of the counts with separate prices, by their names in the column ``token_details``."""


@dataclass(frozen=True, slots=True)
class Line:
    """The cost or usage of one day (UTC). None means "not in the export".

    Attributes:
        day: The day.
        model: The model or other line item; None if the export is not grouped by model.
        service_tier: ``default``, ``flex``, …, ``batch``; None if the export is not grouped by tier.
        cost: USD, in an export of costs.
        requests: The number of requests, in an export of usage, like the counts below.
        prompt_tokens: All input, including cached and written tokens.
        cached_tokens: Input read from the cache.
        cache_write_tokens: Input written to the cache.
        completion_tokens: Output.
        details: Parts of these counts, and other units, by their names in the column ``token_details``.
        kind: The kind of usage, one of :data:`APIS_OF_KIND`.
    """

    day: date
    model: str | None = None
    service_tier: str | None = None
    cost: float | None = None
    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    completion_tokens: int = 0
    details: Mapping[str, int] = field(default_factory=dict)
    kind: str = "completions"


@dataclass(frozen=True, slots=True)
class Export:
    """The lines of an export; ``complete`` is False if its last page announces more pages."""

    lines: list[Line]
    complete: bool = True
    provider: str = "openai"


def read_export(path: str | os.PathLike[str]) -> Export:
    """Read an export, without empty buckets. Blocks for the file.

    Pages of the Usage API can be in a list, or one after the other.

    Raises:
        ConfigError: The file cannot be read or is not such an export; the message names the place and the reason.
    """
    file = Path(path).expanduser()
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as exc:
        raise ConfigError(f"{file}: cannot be read ({exc.strerror})") from exc
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{file}: is not UTF-8 text; expected OpenAI's export as CSV or JSON") from exc
    begin = text.lstrip()[:1]
    complete = True
    if begin in ("{", "["):
        pages = _pages(file, text)
        lines = list(_json(file, pages))
        complete = pages[-1].get("has_more") is not True
    else:
        lines = list(_csv(file, text))
    kinds = {line.cost is None for line in lines}
    if len(kinds) > 1:
        raise ConfigError(f"{file}: contains both usage and costs; expected one of them")
    return Export(lines, complete)


def _csv(file: Path, text: str) -> Iterator[Line]:
    first = text.partition("\n")[0]
    rows = csv.DictReader(io.StringIO(text), delimiter="\t" if "\t" in first else ",")
    columns = {(name or "").strip().lower() for name in rows.fieldnames or ()}
    kind = next((kind for column, kind in _KIND_OF_COLUMN.items() if column in columns), None)
    if "start_time" not in columns or not (columns & {"amount_value", "input_tokens"} or kind):
        raise ConfigError(
            f"{file}:1: has the columns {', '.join(sorted(filter(None, columns))) or '(none)'}; expected start_time, "
            "and amount_value (an export of costs) or input_tokens (of usage)"
        )
    for row in rows:
        values = {(name or "").strip().lower(): value for name, value in row.items() if isinstance(value, str)}
        amount = {"value": values.get("amount_value"), "currency": values.get("amount_currency")}
        found = {**values, "amount": amount, "kind": kind or _kind_of_model(values.get("model"))}
        line = _line(f"{file}:{rows.line_num}", found, "amount_value" in columns)
        if line is not None:
            yield line


def _pages(file: Path, text: str) -> list[dict[str, Any]]:
    """Return the pages of a file: one, a list of pages, or several one after the other."""
    found: list[Any] = []
    decoder, at, end = json.JSONDecoder(), 0, len(text.rstrip())
    while at < end:
        while text[at].isspace():
            at += 1
        try:
            value, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError as exc:
            raise ConfigError(f"{file}:{exc.lineno}: is not valid JSON: {exc.msg}") from exc
        found += value if isinstance(value, list) else [value]
    if not found or not all(isinstance(page, dict) and isinstance(page.get("data"), list) for page in found):
        raise ConfigError(f"{file}: expected a page of the Usage API (an object with data), or pages of it")
    return found


def _json(file: Path, pages: list[dict[str, Any]]) -> Iterator[Line]:
    for number, page in enumerate(pages):
        for index, bucket in enumerate(page["data"]):
            where = f"{file}: {f'page {number + 1}, ' if len(pages) > 1 else ''}data[{index}]"
            results = bucket.get("results", bucket.get("result")) if isinstance(bucket, dict) else None
            if not isinstance(results, list):
                raise ConfigError(f"{where}: expected a bucket with start_time and results")
            for result in results:
                if not isinstance(result, dict):
                    raise ConfigError(f"{where}: expected results that are objects")
                found = {**result, "start_time": bucket.get("start_time"), "kind": _kind_of_object(result)}
                line = _line(where, found, "amount" in result)
                if line is not None:
                    yield line


def _line(where: str, values: Mapping[str, Any], costs: bool) -> Line | None:
    day = _day(where, values.get("start_time"))
    if costs:
        amount = values.get("amount")
        if not isinstance(amount, Mapping) or amount.get("value") in (None, ""):
            return None
        currency = str(amount.get("currency") or "usd").lower()
        if currency != "usd":
            raise ConfigError(f"{where}: the amount is in {currency}; expected usd")
        model, tier = _model_and_tier(_text(values.get("line_item")))
        return Line(day, model, tier, cost=number(where, amount.get("value")))
    counts = {name: int(number(where, values.get(key) or 0)) for name, key in _COUNTS.items()}
    parts = {name: int(number(where, values.get(key) or 0)) for name, key in _DETAILS.items()}
    details = {name: count for name, count in parts.items() if count}
    if not any(counts.values()) and not details:
        return None
    kind = values["kind"]
    if kind in _WITHOUT_CALLS:
        raise ConfigError(
            f"{where}: counts {_WITHOUT_CALLS[kind]}, which no recorded call contains; expected usage of "
            f"{', '.join(APIS_OF_KIND)}, or costs"
        )
    if kind not in APIS_OF_KIND:
        raise ConfigError(
            f"{where}: cannot tell which calls it counts; expected usage of {', '.join(APIS_OF_KIND)}, grouped by model"
        )
    tier = _text(values.get("service_tier"))
    if str(values.get("batch")).lower() == "true":
        tier = "batch"
    return Line(day, _text(values.get("model")), tier, **counts, details=details, kind=kind)


def _kind_of_object(result: Mapping[str, Any]) -> str:
    """Return the kind of a JSON result: ``organization.usage.embeddings.result``."""
    named = str(result.get("object") or "organization.usage.completions.result").split(".")
    return named[2] if len(named) > 2 else named[-1]


def _kind_of_model(model: str | None) -> str | None:
    """Return the kind of a CSV row that has only input tokens: embeddings or moderations."""
    return next((kind for kind in ("embeddings", "moderations") if kind.rstrip("s") in (model or "")), None)


def _model_and_tier(item: str | None) -> tuple[str | None, str | None]:
    """Return the model and the tier of a line item; for a hosted tool its name, such as ``web_search``."""
    if item is None:
        return None, None
    *prefixes, last = item.split(" | ")
    for words, tool in _TOOL_ITEMS.items():
        if last.lower().startswith(words):
            return tool, None
    of_model = _LINE_ITEM.fullmatch(last)
    if of_model is None:
        return item, None
    named = [prefix.lower().removesuffix(" api") for prefix in prefixes]
    return of_model["model"], next((tier for tier in named if tier in _TIERS), "default")


def _text(value: Any) -> str | None:
    return str(value).strip() or None if value is not None else None


def number(where: str, value: Any) -> float:
    """Return the number in a field of an export.

    Raises:
        ConfigError: It is not a finite number; the message begins with ``where``.
    """
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = math.nan
    if not math.isfinite(found):
        raise ConfigError(f"{where}: {value!r} is not a number")
    return found


def utc_day(text: str) -> date:
    """Return the day (UTC) of a date or time in ISO 8601; without an offset it is UTC.

    Raises:
        ValueError: It is neither.
    """
    moment = datetime.fromisoformat(text)
    return (moment.astimezone(UTC) if moment.tzinfo else moment).date()


def _day(where: str, value: Any) -> date:
    try:
        return datetime.fromtimestamp(int(value), UTC).date()
    except (TypeError, ValueError, OverflowError, OSError):
        pass
    try:
        return utc_day(str(value))
    except ValueError:
        raise ConfigError(f"{where}: start_time is {value!r}; expected seconds since 1970, or a date") from None
