"""Records of calls, the column order of their rows, and the interface of a store.

Field names and units follow the OpenAI SDK: ``prompt_tokens`` counts all input, cached tokens included. None means "not
reported", 0 means "none". Prices are USD per 1,000 tokens, costs USD, durations milliseconds, datetimes aware.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, Protocol, runtime_checkable

from rlm_cachetrack._process import new_id
from rlm_cachetrack.errors import RecordError

__all__ = [
    "COLUMNS",
    "LLMInteractionRecord",
    "RecordBatch",
    "RecordSink",
    "RunEnd",
    "RunKey",
    "RunStart",
    "new_id",
]

_TOKEN_FIELDS = (
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "cached_tokens",
    "uncached_prompt_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
)
_PRICE_FIELDS = (
    "prompt_token_price",
    "cached_token_price",
    "cache_write_token_price",
    "completion_token_price",
)
_AMOUNT_FIELDS = (*_PRICE_FIELDS, "total_cost", "original_cost", "duration_ms", "time_to_first_token_ms")
_COUNT_FIELDS = (
    "model_index",
    "context_messages",
    "context_tokens",
    "response_length",
    "iteration",
    "current_depth",
    "max_depth",
    "tool_call_count",
)
INTEGER_COLUMNS = (*_TOKEN_FIELDS, *_COUNT_FIELDS)
"""The columns of ``llm_interactions`` that are INTEGER."""
JSON_COLUMNS = (
    "metadata",
    "usage",
    "token_details",
    "tool_usage",
    "request_options",
    "charges",
    "cost_excludes",
    "tags",
    "cache_diagnostics",
)
"""The columns of ``llm_interactions`` that are JSONB."""
_JSON_LISTS = ("charges", "cost_excludes")
_INT4_MAX = 2**31 - 1
_HEXADECIMAL = re.compile(r"([0-9a-f]{2})*")
# PostgreSQL rejects keys of more than 2,704 bytes, and query_id is the only key column without a fixed size.
_QUERY_ID_BYTES = 2000


@dataclass(slots=True)
class LLMInteractionRecord:
    """One model call, as it is stored. The first twelve fields may be positional, all others are keyword-only.

    Attributes:
        query_id: The query or benchmark; groups runs.
        run_id: When the run began, an aware datetime; identifies the run together with ``query_id``.
        model: The model that the provider served.
        model_type: The caller's own name for a class of models, such as ``root`` or ``sub``.
        prompt_tokens: All input tokens, including those read from the cache.
        completion_tokens: All output tokens, including ``reasoning_tokens``.
        cached_tokens: Input tokens read from the cache. 0 means none, None means not reported.
        uncached_prompt_tokens: ``prompt_tokens - cached_tokens``; computed if left out.
        cache_write_tokens: Input tokens written to the cache; they are part of ``uncached_prompt_tokens``.
        prompt_token_price: USD per 1,000 tokens, like the three other prices; filled from the price table.
        total_cost: What the call cost in USD; computed if left out.
        original_cost: The cost of the same call with nothing cached and nothing written, in USD.
        duration_ms: Milliseconds from the request to the last byte of the response.
        time_to_first_token_ms: Milliseconds from the request to the first chunk of a stream; None without streaming.
        iteration: The step within the run, counted from 1.
        current_depth: The recursion depth; 0 is the top level.
        tool_call_count: The number of calls of function tools, without hosted tools.
        metadata: A mapping that JSON can represent.
        fingerprint: Keyed hashes of the prompt, without its content, as hexadecimal digits. Computed for instrumented
            calls, and included in exports.
        token_details: Quantities without a field of their own, such as ``{"audio_prompt_tokens": 40}``.
        tool_usage: Billed uses of hosted tools, such as ``{"web_search": 2}``.
        request_options: Values of the request that decide price or cache; never content.
        charges: Components of the cost beside the four prices: ``[{item, quantity, unit, price, amount}]``.
        unpriced_reason: Which component lacks a price, if ``total_cost`` is None for that reason.
        cost_excludes: Components that are billed apart and cannot be known from one response.
        call_site: ``module:function`` that made the call.
        trace_id: The OpenTelemetry trace, as 32 hexadecimal digits; ``span_id`` has 16.
        cache_diagnostics: The provider's own reason for a cache miss, as it was returned.
    """

    query_id: str
    run_id: datetime
    model: str
    model_type: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    cached_tokens: int | None = 0
    uncached_prompt_tokens: int | None = None
    prompt_token_price: float | None = None
    completion_token_price: float | None = None
    total_cost: float | None = None
    _: KW_ONLY
    model_index: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    cached_token_price: float | None = None
    cache_write_token_price: float | None = None
    original_cost: float | None = None
    duration_ms: float | None = None
    time_to_first_token_ms: float | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    context_messages: int | None = None
    context_tokens: int | None = None
    response_length: int | None = None
    iteration: int | None = None
    recursion_id: str | None = None
    parent_recursion_id: str | None = None
    current_depth: int | None = None
    max_depth: int | None = None
    has_tool_calls: bool | None = None
    tool_call_count: int | None = None
    success: bool = True
    error_message: str | None = None
    error_type: str | None = None
    metadata: Mapping[str, Any] | None = None
    provider: str | None = None
    api: str | None = None
    service_tier: str | None = None
    finish_reason: str | None = None
    request_id: str | None = None
    price_source: str | None = None
    usage: Mapping[str, Any] | None = field(default=None, repr=False)
    usage_anomaly: str | None = None
    fingerprint: str | None = field(default=None, repr=False)
    token_details: Mapping[str, Any] | None = None
    tool_usage: Mapping[str, Any] | None = None
    request_options: Mapping[str, Any] | None = None
    charges: Sequence[Mapping[str, Any]] | None = None
    unpriced_reason: str | None = None
    cost_excludes: Sequence[str] | None = None
    tags: Mapping[str, Any] | None = None
    call_site: str | None = None
    trace_id: str | None = None
    span_id: str | None = None
    response_id: str | None = None
    cache_diagnostics: Mapping[str, Any] | None = None
    interaction_id: str | None = None
    time: datetime | None = None

    def check(self) -> None:
        """Check the record before it is journaled.

        Raises:
            RecordError: The message names the field, its value and what was expected.
        """
        checked_query_id(self.query_id)
        if not isinstance(self.model, str) or not self.model:
            raise RecordError(f"model={self.model!r}: expected a non-empty string")
        aware(self.run_id, "run_id")
        for name in ("start_time", "end_time", "time"):
            if (value := getattr(self, name)) is not None:
                aware(value, name)
        for name in INTEGER_COLUMNS:
            _check_count(name, getattr(self, name))
        for name in _AMOUNT_FIELDS:
            _check_amount(name, getattr(self, name))
        for name in JSON_COLUMNS:
            if name in _JSON_LISTS:
                _check_json_list(name, getattr(self, name))
            else:
                checked_json(getattr(self, name), name)
        self._check_flags_and_fingerprint()
        self._check_cached_tokens()

    def _check_flags_and_fingerprint(self) -> None:
        if not isinstance(self.success, bool):
            raise RecordError(f"success={self.success!r}: expected True or False")
        if not isinstance(self.has_tool_calls, bool | None):
            raise RecordError(f"has_tool_calls={self.has_tool_calls!r}: expected True, False or None")
        if self.fingerprint is not None and not _HEXADECIMAL.fullmatch(str(self.fingerprint)):
            raise RecordError("fingerprint: expected hexadecimal digits, as in an export, or None")

    def _check_cached_tokens(self) -> None:
        if self.cached_tokens is None or self.prompt_tokens is None:
            return
        if self.cached_tokens > self.prompt_tokens:
            raise RecordError(
                f"cached_tokens={self.cached_tokens} is more than prompt_tokens={self.prompt_tokens}: "
                "prompt_tokens counts all input, the cached tokens included"
            )
        uncached = self.prompt_tokens - self.cached_tokens
        if self.uncached_prompt_tokens not in (None, uncached):
            raise RecordError(
                f"uncached_prompt_tokens={self.uncached_prompt_tokens}: expected prompt_tokens - cached_tokens "
                f"= {uncached}, or leave it out"
            )


COLUMNS: tuple[str, ...] = (
    "time",
    "interaction_id",
    *(f.name for f in fields(LLMInteractionRecord) if f.name not in ("time", "interaction_id")),
)
"""The columns of ``llm_interactions`` in the order of a row handed to a :class:`RecordSink`."""


@dataclass(frozen=True, slots=True)
class RunKey:
    """The key of a run: ``query_id`` and the aware datetime at which it began."""

    query_id: str
    run_id: datetime


@dataclass(frozen=True, slots=True)
class RunStart:
    """A run began at ``time``."""

    query_id: str
    run_id: datetime
    time: datetime
    metadata: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class RunEnd:
    """A run ended at ``time`` with ``status``: completed, error, or the caller's own."""

    query_id: str
    run_id: datetime
    time: datetime
    status: str = "completed"


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """The data that a sink stores in one transaction.

    Attributes:
        interactions: Rows in the order of :data:`COLUMNS`: aware datetimes, ``interaction_id`` as a UUID, ``metadata``
            and ``usage`` as JSON text, ``fingerprint`` as bytes.
        run_starts: Runs that began; runs that are already stored do not change.
        run_ends: Runs that ended; their optimization is stored after the interactions.
        optimizations: Runs whose optimization must be computed again.
        possible_duplicate: Part of the batch may already be stored: the batch comes from the journal of a dead process,
            or an earlier attempt to store it failed.
    """

    interactions: Sequence[tuple[Any, ...]] = ()
    run_starts: Sequence[RunStart] = ()
    run_ends: Sequence[RunEnd] = ()
    optimizations: Sequence[RunKey] = ()
    possible_duplicate: bool = False

    def __len__(self) -> int:
        return len(self.interactions) + len(self.run_starts) + len(self.run_ends) + len(self.optimizations)


@runtime_checkable
class RecordSink(Protocol):
    """The interface of a store. The default is PostgreSQL; pass your own with ``instrument(store=…)``.

    Both methods are called on the writer thread and may block. After an exception from :meth:`store` the batch stays
    in the journal and is retried, so storing must be idempotent by ``interaction_id``. After a
    :class:`~.errors.RecordRejectedError` the writer bisects the batch, and the poison record becomes a dead letter.
    """

    def store(self, batch: RecordBatch) -> None:
        """Store the whole batch; return only when it is durable."""

    def close(self) -> None:
        """Release all resources; called once."""


@runtime_checkable
class ProbingSink(RecordSink, Protocol):
    """A sink that can test whether it accepts a valid record, after it rejected every record of a batch."""

    def probe(self) -> None:
        """Test whether a valid record would be accepted; raise the error if not. Stores nothing; may block."""


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
            raise RecordError(f"{name}={value!r}: expected an ISO 8601 date and time with an offset") from None
    if not isinstance(moment, datetime):
        raise RecordError(f"{name}={value!r}: expected a datetime, not {type(value).__name__}")
    if moment.tzinfo is None or moment.utcoffset() is None:
        raise RecordError(
            f"{name}={value!r} is naive, so its meaning depends on the machine's time zone. "
            "Use datetime.now(timezone.utc), or give it a tzinfo"
        )
    return moment.astimezone(UTC)


def checked_query_id(query_id: object) -> str:
    """Return ``query_id`` as it is stored.

    Raises:
        RecordError: ``query_id`` is not text, is empty, or is too long for a table's key.
    """
    if not isinstance(query_id, str) or not query_id:
        raise RecordError(f"query_id={query_id!r}: expected a non-empty string")
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
        RecordError: The value is not a mapping, or JSON cannot represent it.
    """
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise RecordError(f"{name} is a {type(value).__name__}: expected a mapping")
    plain = dict(value)
    try:
        json.dumps(plain, default=str)
    except (TypeError, ValueError, RecursionError) as exc:
        raise RecordError(f"{name} cannot be written as JSON: {exc}") from exc
    return plain


def _check_json_list(name: str, value: object) -> None:
    if value is None:
        return
    if not isinstance(value, (list, tuple)):
        raise RecordError(f"{name} is a {type(value).__name__}: expected a list")
    checked_json({name: list(value)}, name)


def clean_text(value: object) -> str:
    """Return the text without characters that PostgreSQL rejects: NUL and lone surrogates."""
    text = value if isinstance(value, str) else str(value)
    if text.isascii() and "\x00" not in text:
        return text
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def event_of_record(record: LLMInteractionRecord, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the journal event of a manually created record.

    Args:
        record: The record, checked.
        values: The values of the current context, for fields that the record leaves out.
    """
    event: dict[str, Any] = {"kind": "record"}
    for name in COLUMNS:
        value = getattr(record, name)
        if value is None:
            value = values.get(name)
        if isinstance(value, datetime):
            value = value.astimezone(UTC).isoformat()
        elif isinstance(value, Mapping):
            value = dict(value)
        elif name in _JSON_LISTS and value is not None:
            value = list(value)
        event[name] = value
    if event["time"] is None and event["start_time"] is None and event["end_time"] is None:
        # Set here, not when the record is stored: a retry must store the same row.
        event["time"] = datetime.now(UTC).isoformat()
    return event


def _check_count(name: str, value: object) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise RecordError(f"{name}={value!r}: expected a whole number or None")
    if not 0 <= value <= _INT4_MAX:
        raise RecordError(f"{name}={value!r}: expected 0 to {_INT4_MAX}")


def _check_amount(name: str, value: object) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise RecordError(f"{name}={value!r}: expected a number or None")
    if not math.isfinite(value) or value < 0:
        raise RecordError(f"{name}={value!r}: expected a finite number of at least 0")
