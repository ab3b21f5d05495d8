"""Journal lines of finished calls, straight to rows of the binary COPY format: the writer's hot path.

One call in one pass: no dict with names, no datetimes, no dataclasses; what calls have in common (their run, their
model and its prices, the shape of their usage) is encoded once and remembered. Only the usual call goes this way.
Whatever is unusual (a failure, a usage that has to be settled) is left to :mod:`.rows`, which reads
everything; where both can, they store the same row.
"""

from __future__ import annotations

import json
import struct
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from rlm_cachetrack.journal import FIELDS, kept_ms, told_apart
from rlm_cachetrack.pricing import PriceBook, Rates, Schedule, amounts
from rlm_cachetrack.records import COLUMNS, PackedRows, call_id_halves, clean_text
from rlm_cachetrack.store import EPOCH_MICROS, NULL, datetime_of_micros, pack_fields
from rlm_cachetrack.usage import simple_counts

try:
    from pydantic_core import to_json as _to_json
except ImportError:  # openai with pydantic 1
    _to_json = None  # type: ignore[assignment]

__all__ = ["PACKED_COLUMNS", "USABLE", "Packer"]

_PLACE = (
    "query_id",
    "run_id",
    "iteration",
    "model_type",
    "model_index",
    "recursion_id",
    "parent_recursion_id",
    "current_depth",
    "max_depth",
)
_KIND = ("model", "api", "provider", "service_tier", "finish_reason", "metadata")
_PRICES = (
    "prompt_token_price",
    "cached_token_price",
    "cache_write_token_price",
    "completion_token_price",
    "price_source",
)
_ALWAYS = (
    "time",
    "interaction_id",
    "start_time",
    "end_time",
    "duration_ms",
    "success",
    "has_tool_calls",
    "tool_call_count",
)
_NUMBERS = (
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "cached_tokens",
    "uncached_prompt_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "context_messages",
    "response_length",
    "total_cost",
    "original_cost",
    "time_to_first_token_ms",
)
_LAST = ("request_id", "usage", "fingerprint")
_OFTEN = (*_PLACE, *_KIND, *_PRICES, *_ALWAYS, *_NUMBERS, *_LAST)
_NEVER = tuple(name for name in COLUMNS if name not in _OFTEN)

_EXPECTED = (
    "number",
    "api",
    "provider",
    "model",
    "requested_model",
    "start_ns",
    "duration_ns",
    "time_to_first_token_ns",
    "context_messages",
    "response_length",
    "request_id",
    "service_tier",
    "finish_reason",
    "tool_call_count",
    "error_type",
    "error_message",
    "metadata",
)
USABLE = FIELDS == _EXPECTED and _to_json is not None
"""Whether lines are what :meth:`Packer.pack` was written for; a test holds that they are."""

PACKED_COLUMNS: tuple[str, ...] = (*_NEVER, *_OFTEN)
"""The columns of a row that :class:`Packer` wrote, in its order."""

_START = struct.pack("!h", len(PACKED_COLUMNS)) + NULL * len(_NEVER)
# Each field: its length, then the value; a length of -1 is NULL.
_always = struct.Struct("!iq iQQ iq iq id i? i? ii").pack
_numbers: dict[tuple[bool, bool], Callable[..., bytes]] = {
    (written, first): struct.Struct(
        f"!ii ii ii ii ii {'ii' if written else 'i'} ii ii ii id id {'id' if first else 'i'}"
    ).pack
    for written in (False, True)
    for first in (False, True)
}
_plain_numbers = _numbers[False, False]
_size = struct.Struct("!i").pack
_STREAMED = {"stream": True}
_UNPRICED = NULL * len(_PRICES)
_HOUR = 3_600_000_000  # microseconds
_MOST = 10_000  # of what is remembered; names come from servers


class _Kind(NamedTuple):
    """What calls of one model, provider, tier and finish reason have in common."""

    fields: bytes
    schedule: Schedule | None


class Packer:
    """Packs calls; keeps what they have in common.

    Args:
        prices: What tokens cost.
        fingerprint_of: Gives the fingerprint of a call by its number; None where calls have none.
    """

    def __init__(self, prices: PriceBook, fingerprint_of: Callable[[int], bytes | None] | None = None) -> None:
        self._book = prices
        self._fingerprint_of = fingerprint_of
        self._places: dict[tuple[Any, ...], tuple[bytes, tuple[str, datetime]]] = {}
        self._kinds: dict[tuple[Any, ...], _Kind] = {}
        self._rates: dict[int, tuple[bytes, Rates]] = {}
        self._firsts: dict[tuple[str, datetime], int] = {}
        self._lasts: dict[tuple[str, datetime], int] = {}
        self._hours: set[int] = set()

    def pack(self, line: Mapping[str, Any]) -> bytes | None:
        """One row, or None where the call is not a usual one.

        Args:
            line: What the journal holds of a finished call, decoded.

        Raises:
            Exception: The line is damaged.
        """
        (
            number,
            api,
            provider,
            model,
            requested,
            start,
            duration,
            first,
            messages,
            length,
            request_id,
            tier,
            finish,
            tools,
            error_type,
            _,
            metadata,
        ) = line["call"]
        usage = line["usage"]
        if error_type is not None or type(usage) is not dict or type(start) is not int:
            return None
        if metadata and metadata != _STREAMED:
            return None
        counts = simple_counts(usage, None if provider is None else provider.partition("@")[0])
        if counts is None:
            return None
        prompt, completion, total, cached, written, reasoning = counts
        place, run = self._place(line["in"])
        key = (model, requested, provider, api, tier, finish, bool(metadata))
        kind = self._kinds.get(key)
        if kind is None:
            kind = self._new_kind(*key)
            _remember(self._kinds, key, kind)
        start //= 1000  # microseconds: what the table holds
        prices, cost, original = self._price(kind.schedule, start, prompt, completion, cached, written)

        began = start - EPOCH_MICROS
        high, low = call_id_halves(start * 1000, number)
        ended = began + duration // 1000
        if first is not None:
            first = kept_ms(first)
        always = _always(
            8, began, 16, high, low, 8, began, 8, ended, 8, kept_ms(duration), 1, True, 1, tools > 0, 4, tools
        )  # fmt: skip
        if cached is None or reasoning is None or messages is None or length is None or cost is None:
            uncached = None if cached is None else prompt - cached
            counted = (prompt, completion, total, cached, uncached, written, reasoning, messages, length)
            numbers = pack_fields(_NUMBERS, (*counted, cost, original, first))
        elif written is None and first is None:  # the usual numbers
            numbers = _plain_numbers(
                4, prompt, 4, completion, 4, total, 4, cached, 4, prompt - cached, -1, 4, reasoning,
                4, messages, 4, length, 8, cost, 8, original, -1,
            )  # fmt: skip
        else:
            pack = _numbers[written is not None, first is not None]
            numbers = pack(
                4, prompt, 4, completion, 4, total, 4, cached, 4, prompt - cached,
                *((-1,) if written is None else (4, written)), 4, reasoning,
                4, messages, 4, length, 8, cost, 8, original, *((-1,) if first is None else (8, first)),
            )  # fmt: skip
        usage_json: bytes = _to_json(usage, inf_nan_mode="null")
        if b"\\u0000" in usage_json:
            return None
        if request_id is None:
            request = NULL
        else:
            data = clean_text(request_id).encode()
            request = _size(len(data)) + data
        fingerprint = None if self._fingerprint_of is None else self._fingerprint_of(number)
        row = b"".join(
            (
                _START,
                place,
                kind.fields,
                prices,
                always,
                numbers,
                request,
                _size(len(usage_json) + 1),
                b"\1",
                usage_json,
                NULL if fingerprint is None else _size(len(fingerprint)) + fingerprint,
            )
        )
        firsts, lasts = self._firsts, self._lasts
        if run not in firsts:
            firsts[run] = lasts[run] = began
        elif began > lasts[run]:
            lasts[run] = began
        elif began < firsts[run]:
            firsts[run] = began
        self._hours.add(began // _HOUR)
        return row

    def take(self, rows: Sequence[bytes]) -> PackedRows:
        """The rows packed since the last time, with the runs and the hours of their calls."""
        firsts, lasts, hours = self._firsts, self._lasts, self._hours
        self._firsts, self._lasts, self._hours = {}, {}, set()
        return PackedRows(
            PACKED_COLUMNS,
            rows,
            {run: (datetime_of_micros(began), datetime_of_micros(lasts[run])) for run, began in firsts.items()},
            [datetime_of_micros(hour * _HOUR) for hour in hours],
        )

    def _place(self, values: Mapping[str, Any]) -> tuple[bytes, tuple[str, datetime]]:
        key = tuple(values.items())
        known = self._places.get(key)
        if known is None:
            if strange := values.keys() - set(_PLACE):
                raise ValueError(f"a call's place with {', '.join(sorted(strange))}")
            named = {**values, "query_id": clean_text(values["query_id"])}
            for name in ("model_type", "recursion_id", "parent_recursion_id"):
                if named.get(name) is not None:
                    named[name] = clean_text(named[name])
            named["run_id"] = datetime.fromisoformat(values["run_id"])
            known = pack_fields(_PLACE, [named.get(name) for name in _PLACE]), (named["query_id"], named["run_id"])
            _remember(self._places, key, known)
        return known

    def _new_kind(
        self, model: Any, requested: Any, provider: Any, api: Any, tier: Any, finish: Any, streamed: bool
    ) -> _Kind:
        model, provider, metadata = told_apart(model, requested, provider, _STREAMED if streamed else None)
        texts = [None if value is None else clean_text(value) for value in (model, api, provider, tier, finish)]
        return _Kind(
            pack_fields(_KIND, (*texts, None if metadata is None else _rendered(metadata))),
            self._book.schedule(model=model, provider=provider, service_tier=tier),
        )

    def _price(
        self,
        schedule: Schedule | None,
        start: int,
        prompt: int,
        completion: int,
        cached: int | None,
        written: int | None,
    ) -> tuple[bytes, float | None, float | None]:
        """The fields of :data:`_PRICES`, the total and the original cost."""
        period = None
        if schedule is not None:
            period = schedule.always or schedule.at(datetime_of_micros(start - EPOCH_MICROS))
        if period is None:
            return _UNPRICED, None, None
        rates = period.rates[bisect_left(period.starts, prompt)]
        known = self._rates.get(id(rates))
        if known is None or known[1] is not rates:
            prices = (rates.prompt, rates.cached, rates.cache_write, rates.completion, rates.source)
            known = (pack_fields(_PRICES, prices), rates)  # kept, so that its id stays its own
            _remember(self._rates, id(rates), known)
        if not rates.by_tokens_alone:
            return known[0], None, None
        total, original = amounts(
            prompt, completion, cached, written, (rates.prompt, rates.cached, rates.cache_write, rates.completion)
        )
        return known[0], total, original


def _rendered(metadata: Mapping[str, Any]) -> str:
    text = json.dumps(metadata, separators=(",", ":"))
    if "\\u0000" in text or "\\ud" in text:
        raise ValueError("what JSONB refuses")
    return text


def _remember(known: dict[Any, Any], key: Any, value: Any) -> None:
    if len(known) >= _MOST:
        known.clear()
    known[key] = value
