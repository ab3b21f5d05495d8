"""The record of one call, and the columns of its row."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, fields
from datetime import UTC, datetime
from typing import Any

from rlm_cachetrack.errors import RecordError, safe_repr

from .checks import aware, check_amount, check_count, check_json_list, check_text, checked_json, checked_query_id

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
_HEXADECIMAL = re.compile(r"([0-9a-f]{2})*")


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
        token_details: Quantities without a separate field, such as ``{"audio_prompt_tokens": 40}``.
        tool_usage: Billed uses of hosted tools, such as ``{"web_search": 2}``.
        request_options: Values of the request that affect price or cache; never content.
        charges: Components of the cost in addition to the four prices: ``[{item, quantity, unit, price, amount}]``.
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
            raise RecordError(f"model={safe_repr(self.model)}: expected a non-empty string")
        aware(self.run_id, "run_id")
        for name in ("start_time", "end_time", "time"):
            if (value := getattr(self, name)) is not None:
                aware(value, name)
        for name in _TEXT_FIELDS:
            check_text(name, getattr(self, name))
        for name in INTEGER_COLUMNS:
            check_count(name, getattr(self, name))
        for name in _AMOUNT_FIELDS:
            check_amount(name, getattr(self, name))
        for name in JSON_COLUMNS:
            if name in _JSON_LISTS:
                check_json_list(name, getattr(self, name))
            else:
                checked_json(getattr(self, name), name)
        self._check_flags_and_fingerprint()
        self._check_cached_tokens()

    def _check_flags_and_fingerprint(self) -> None:
        if not isinstance(self.success, bool):
            raise RecordError(f"success={safe_repr(self.success)}: expected True or False")
        if not isinstance(self.has_tool_calls, bool | None):
            raise RecordError(f"has_tool_calls={safe_repr(self.has_tool_calls)}: expected True, False or None")
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


_TEXT_FIELDS = tuple(field.name for field in fields(LLMInteractionRecord) if field.type == "str | None")

COLUMNS: tuple[str, ...] = (
    "time",
    "interaction_id",
    *(f.name for f in fields(LLMInteractionRecord) if f.name not in ("time", "interaction_id")),
)
"""The columns of ``llm_interactions`` in the order of a row handed to a :class:`RecordSink`."""


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
