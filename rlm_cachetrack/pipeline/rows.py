"""Turns journal events into what a sink stores: dialects are read and prices applied here, on the writer's thread.

An event is one line of the journal, a dict with a ``kind``:

* ``call``: an instrumented call; ``usage`` is what the server sent, tokens and costs are derived from it;
* ``record``: a record made by hand; its tokens, prices and costs stand, what is left out is filled in;
* ``stored``: a row that comes from a store, complete as it is: nothing is filled in;
* ``run_start``, ``run_end``, ``optimization``: of a run.

Moments are ISO 8601 text, or seconds since the epoch for the clock readings of a call.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

from rlm_cachetrack.journal import expand_event
from rlm_cachetrack.pricing import Cost, PriceBook
from rlm_cachetrack.records import COLUMNS, RecordBatch, RunEnd, RunKey, RunStart
from rlm_cachetrack.records import clean_text as _text
from rlm_cachetrack.store import pack_row, pack_rows
from rlm_cachetrack.usage import TokenUsage, read_usage

from .fast_rows import USABLE, Packer

__all__ = ["Built", "Rows"]

_TEXT = frozenset(
    {
        "query_id",
        "model",
        "model_type",
        "recursion_id",
        "parent_recursion_id",
        "error_message",
        "error_type",
        "provider",
        "api",
        "service_tier",
        "finish_reason",
        "request_id",
        "price_source",
        "usage_anomaly",
    }
)
_JSON = frozenset({"metadata", "usage"})
_MOMENTS = ("time", "start_time", "end_time", "run_id")
_COST_FIELDS = (
    "prompt_token_price",
    "cached_token_price",
    "cache_write_token_price",
    "completion_token_price",
    "total_cost",
    "original_cost",
)


# A thread that computes keeps the interpreter's lock for 5 ms at a time while others wait for it: the caller's, and the
# one that sends the batch before. So it stops for a moment after so many events. Not for 0 seconds: it would have the
# lock back before another has woken up.
_STRETCH = 32
_BREATH_S = 1e-5


class Built(NamedTuple):
    """What became of some events.

    Attributes:
        batch: For a sink.
        unreadable: Events that are in no batch, and why.
    """

    batch: RecordBatch
    unreadable: Sequence[tuple[Mapping[str, Any], Exception]]


class Rows:
    """Builds batches; keeps what is constant between calls (prices by model) warm.

    Args:
        prices: What tokens cost.
        packed: For a sink that takes :class:`~.records.PackedRows`; others get tuples.
        fingerprint_of: Gives the fingerprint of a call by its number; None where calls have none.
    """

    def __init__(
        self,
        prices: PriceBook,
        *,
        packed: bool = False,
        fingerprint_of: Callable[[int], bytes | None] | None = None,
    ) -> None:
        self.prices = self._prices = prices
        self._packed = packed
        self._fingerprint_of = fingerprint_of
        self._packer = Packer(prices, fingerprint_of)

    def build(self, events: Iterable[Mapping[str, Any]]) -> Built:
        """Turn events into a batch; one that cannot be understood is left out of it and told.

        Args:
            events: As :meth:`~.journal.Journal.decode` gives them.

        Raises:
            ImportError, MemoryError, OSError: The machine lacks something; nothing is wrong with the events.
        """
        usual: list[bytes] = []
        interactions: list[tuple[Any, ...]] = []
        starts: list[RunStart] = []
        ends: list[RunEnd] = []
        optimizations: list[RunKey] = []
        unreadable: list[tuple[Mapping[str, Any], Exception]] = []
        pack = self._packer.pack if self._packed and USABLE else _never
        for number, event in enumerate(events, 1):
            if not number % _STRETCH:
                time.sleep(_BREATH_S)
            if "call" in event:
                try:
                    row = pack(event)
                except Exception:
                    row = None  # what is the matter with it is for the careful way to say
                if row is not None:
                    usual.append(row)
                    continue
            try:
                line = event
                event = expand_event(event)
                kind = event["kind"]
                if "call" in line and self._fingerprint_of is not None:
                    fingerprint = self._fingerprint_of(line["call"][0])
                    event = {**event, "fingerprint": None if fingerprint is None else fingerprint.hex()}
                if kind in ("call", "record", "stored"):
                    interaction = self._interaction(event)
                    if self._packed:
                        pack_row(interaction)  # what cannot be packed is to be known now
                    interactions.append(interaction)
                elif kind == "run_start":
                    starts.append(RunStart(*_run(event), _moment(event["time"]), _clean_mapping(event.get("metadata"))))
                elif kind == "run_end":
                    ends.append(RunEnd(*_run(event), _moment(event["time"]), _text(event["status"])))
                elif kind == "optimization":
                    optimizations.append(RunKey(*_run(event)))
                else:
                    raise ValueError(f"an event of the unknown kind {kind!r}")
            except (ImportError, MemoryError, OSError):
                raise  # the machine's trouble (no memory, no file may be opened), not the event's: it passes
            except Exception as exc:  # one event that we cannot read must not hold back the others
                unreadable.append((event, exc))
        packed = []
        if usual:
            packed.append(self._packer.take(usual))
        if self._packed and interactions:
            packed.append(pack_rows(interactions))
            interactions = []
        return Built(RecordBatch(interactions, starts, ends, optimizations, packed), unreadable)

    def _interaction(self, event: Mapping[str, Any]) -> tuple[Any, ...]:
        values = dict(event)
        for name in _MOMENTS:
            if (value := values.get(name)) is not None:
                values[name] = _moment(value)
        if values.get("time") is None:
            values["time"] = values.get("start_time") or values.get("end_time") or datetime.now(UTC)
        usage = read_usage(values.get("usage"), provider=values.get("provider"))
        if values["kind"] == "call":
            _fill_from_usage(values, usage)
            cost = self._prices.cost(usage, **_priced_by(values))
        elif values["kind"] == "record":
            cost = self._complete(values)
        else:
            cost = _given(values)
        for name in (*_COST_FIELDS, "price_source"):
            values[name] = getattr(cost, name)
        for name in _TEXT:
            if (text := values.get(name)) is not None:
                values[name] = _text(text)
        for name in _JSON:
            if (value := values.get(name)) is not None:
                values[name] = _json(value)
        values["interaction_id"] = UUID(values["interaction_id"])
        return tuple([values.get(name) for name in COLUMNS])

    def _complete(self, values: dict[str, Any]) -> Cost:
        prompt, cached = values.get("prompt_tokens"), values.get("cached_tokens")
        if values.get("uncached_prompt_tokens") is None and prompt is not None and cached is not None:
            values["uncached_prompt_tokens"] = prompt - cached
        if values.get("total_tokens") is None and prompt is not None and values.get("completion_tokens") is not None:
            values["total_tokens"] = prompt + values["completion_tokens"]
        if values.get("has_tool_calls") is None and values.get("tool_call_count") is not None:
            values["has_tool_calls"] = values["tool_call_count"] > 0
        if values.get("duration_ms") is None and values.get("start_time") and values.get("end_time"):
            values["duration_ms"] = (values["end_time"] - values["start_time"]).total_seconds() * 1000
        usage = TokenUsage(
            prompt_tokens=prompt,
            completion_tokens=values.get("completion_tokens"),
            total_tokens=values.get("total_tokens"),
            cached_tokens=cached,
            cache_write_tokens=values.get("cache_write_tokens"),
            reasoning_tokens=values.get("reasoning_tokens"),
        )
        return self._prices.complete(_given(values), usage, **_priced_by(values))


def _given(values: Mapping[str, Any]) -> Cost:
    return Cost(**{name: values.get(name) for name in (*_COST_FIELDS, "price_source")})


def _never(_: Mapping[str, Any]) -> bytes | None:
    return None


def _fill_from_usage(values: dict[str, Any], usage: TokenUsage) -> None:
    values["prompt_tokens"] = usage.prompt_tokens
    values["completion_tokens"] = usage.completion_tokens
    values["total_tokens"] = usage.total_tokens
    values["cached_tokens"] = usage.cached_tokens
    values["uncached_prompt_tokens"] = usage.uncached_prompt_tokens
    values["cache_write_tokens"] = usage.cache_write_tokens
    values["reasoning_tokens"] = usage.reasoning_tokens
    values["usage_anomaly"] = usage.anomaly
    if values.get("success") and usage.prompt_tokens is usage.completion_tokens is usage.total_tokens is None:
        values["metadata"] = {"usage": "unknown", **(values.get("metadata") or {})}  # if something came, no number did


def _priced_by(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "model": values["model"],
        "provider": values.get("provider"),
        "service_tier": values.get("service_tier"),
        "at": values["time"],
    }


def _run(event: Mapping[str, Any]) -> tuple[str, datetime]:
    return _text(event["query_id"]), _moment(event["run_id"])


def _moment(value: Any) -> datetime:
    if isinstance(value, datetime):
        return value
    if isinstance(value, str):
        return datetime.fromisoformat(value)
    try:
        return datetime.fromtimestamp(value, UTC)
    except OSError as exc:  # so says the C library of some systems
        raise ValueError(f"{value!r} is no moment: {exc}") from exc


def _json(value: Any) -> str:
    try:
        text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    except ValueError:
        text = "\\u0000"
    if "\\u0000" in text or "\\ud" in text:
        text = json.dumps(_clean(value), separators=(",", ":"))
    return text


def _clean_mapping(value: Any) -> Mapping[str, Any] | None:
    return None if value is None else _clean(value)


def _clean(value: Any) -> Any:
    """The same value without what JSONB refuses: NUL, halves of surrogate pairs, and numbers that are none."""
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {_text(key): _clean(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(item) for item in value]
    return value
