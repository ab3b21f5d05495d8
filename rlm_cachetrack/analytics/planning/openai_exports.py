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
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from rlm_cachetrack.errors import ConfigError

# A line item is an optional tier, a model and a unit: "gpt-5-2025-08-07, cached input", "gpt-5.6, cache writes",
# "priority | gpt-5.6, output, long context", "gpt-audio-mini audio, input". Others are not models: "web search calls".
_LINE_ITEM = re.compile(
    r"(?:(?P<tier>[a-z]+)(?: api)? \| )?(?P<model>.+?)(?: (?:text|audio|image))?, .+", re.IGNORECASE
)


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


@dataclass(frozen=True, slots=True)
class Export:
    """The lines of an export; ``complete`` is False if its last page says that more pages follow."""

    lines: list[Line]
    complete: bool = True


def read_export(path: str | os.PathLike[str]) -> Export:
    """Read an export, without empty buckets. Blocks for the file.

    Pages of the Usage API can be in a list, or one after the other.

    Raises:
        ConfigError: The file cannot be read or is not such an export; the message says where and why.
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
    if "start_time" not in columns or not columns & {"amount_value", "input_tokens"}:
        raise ConfigError(
            f"{file}:1: has the columns {', '.join(sorted(filter(None, columns))) or '(none)'}; expected start_time, "
            "and amount_value (an export of costs) or input_tokens (of usage)"
        )
    for row in rows:
        values = {(name or "").strip().lower(): value for name, value in row.items() if isinstance(value, str)}
        amount = {"value": values.get("amount_value"), "currency": values.get("amount_currency")}
        line = _line(f"{file}:{rows.line_num}", {**values, "amount": amount}, "amount_value" in columns)
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
                line = _line(where, {**result, "start_time": bucket.get("start_time")}, "amount" in result)
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
        item = _text(values.get("line_item"))
        of_model = _LINE_ITEM.fullmatch(item or "")
        tier = (of_model["tier"] or "default").lower() if of_model else None
        return Line(day, of_model["model"] if of_model else item, tier, cost=_number(where, amount.get("value")))
    counts = {
        name: int(_number(where, values.get(key) or 0))
        for name, key in (
            ("requests", "num_model_requests"),
            ("prompt_tokens", "input_tokens"),
            ("cached_tokens", "input_cached_tokens"),
            ("cache_write_tokens", "input_cache_write_tokens"),
            ("completion_tokens", "output_tokens"),
        )
    }
    if not any(counts.values()):
        return None
    tier = _text(values.get("service_tier"))
    if str(values.get("batch")).lower() == "true":
        tier = "batch"
    return Line(day, _text(values.get("model")), tier, **counts)


def _text(value: Any) -> str | None:
    return str(value).strip() or None if value is not None else None


def _number(where: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ConfigError(f"{where}: {value!r} is not a number")
    return number


def _day(where: str, value: Any) -> date:
    try:
        return datetime.fromtimestamp(int(value), UTC).date()
    except (TypeError, ValueError, OverflowError, OSError):
        pass
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        raise ConfigError(f"{where}: start_time is {value!r}; expected seconds since 1970, or a date") from None
    return (moment.astimezone(UTC) if moment.tzinfo else moment).date()
