"""Turn journal events of calls into rows, on the writer's thread.

Three kinds of event become a row:

* ``call``: an instrumented call. Tokens are read from ``usage`` as the server sent it, costs are computed from them.
* ``record``: a record made by hand. Its tokens, prices and costs are kept; missing values are filled in.
* ``stored``: a complete row from a store. Nothing is filled in.

Times are ISO 8601 text, or seconds since the epoch for the clock readings of a call.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any, NamedTuple
from uuid import UUID

from rlm_cachetrack._process import uuid7
from rlm_cachetrack.fingerprint import HashedRequest
from rlm_cachetrack.journal import extra_columns, kept_ms, served_model
from rlm_cachetrack.pricing import Cost, PriceBook
from rlm_cachetrack.records import COLUMNS, INTEGER_COLUMNS, JSON_COLUMNS, clean_text, merge_tags
from rlm_cachetrack.usage import TokenUsage, read_usage

from .stored_values import json_text, server_json_text, short_text

_CONTEXT = (
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
_PRICE_KEY = ("model", "provider", "service_tier")
_SERVED = (*_PRICE_KEY, "api", "finish_reason")
_MEASURED = (
    "time",
    "interaction_id",
    "start_time",
    "end_time",
    "duration_ms",
    "time_to_first_token_ms",
    "context_messages",
    "context_tokens",
    "response_length",
    "tool_call_count",
    "has_tool_calls",
    "success",
    "error_type",
    "error_message",
    "request_id",
    "response_id",
    "fingerprint",
)
_TOKENS = (
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "cached_tokens",
    "uncached_prompt_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "usage_anomaly",
)
_DETAILS = ("token_details", "tool_usage")
_EXTRA = (
    "request_options",
    "call_site",
    "trace_id",
    "span_id",
    "cache_diagnostics",
)
_NO_EXTRA = (None,) * len(_EXTRA)
_GROUPED = (*_CONTEXT, "tags", *_SERVED, *_MEASURED, *_TOKENS, *Cost._fields, "metadata", "usage", *_DETAILS, *_EXTRA)
_in_column_order: Callable[[tuple[Any, ...]], tuple[Any, ...]] = itemgetter(*map(_GROUPED.index, COLUMNS))

_TEXT = (
    *("query_id", "model_type", "recursion_id", "parent_recursion_id"),
    *_SERVED,
    *("error_type", "error_message", "request_id", "price_source", "usage_anomaly", "unpriced_reason"),
    *("call_site", "trace_id", "span_id", "response_id"),
)
_OF_SERVER = ("usage", "cache_diagnostics")
_LONG_TEXT = ("query_id", "error_message")  # have limits of their own
_TIMES = ("time", "start_time", "end_time", "run_id")
_INT4_MIN, _INT4_MAX = -(2**31), 2**31 - 1
# Limits of each cache, which are needed because servers choose the names.
_MAX_CACHED = 10_000
_LONGEST_KEY = 1_000


class _Context(NamedTuple):
    """The values that calls of one run context share."""

    columns: tuple[Any, ...]
    tags: Mapping[str, str] | None
    tags_text: str | None


class _Served(NamedTuple):
    """The values that calls of one model, provider, tier and finish reason share."""

    columns: tuple[str | None, ...]
    price_key: dict[str, Any]
    metadata: Mapping[str, Any] | None
    metadata_text: str | None


class RowBuilder:
    """Makes rows in the order of :data:`~.records.COLUMNS`; caches the values that calls share.

    Args:
        prices: The prices of tokens.
        hashed_request_of: Returns the hashed request of a call by its number; None if requests are not hashed.
    """

    def __init__(
        self, prices: PriceBook, hashed_request_of: Callable[[int], HashedRequest | None] | None = None
    ) -> None:
        self.prices = prices
        self._hashed_request_of = hashed_request_of
        self._contexts: dict[str, _Context] = {}
        self._served: dict[tuple[Any, ...], _Served] = {}

    def row(self, event: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return the row of an event of kind ``call``, ``record`` or ``stored``.

        Raises:
            Exception: The event is damaged, or a value does not fit its column.
        """
        return self._row_of_call(event) if "call" in event else self._row_of_values(dict(event))

    def _row_of_call(self, event: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return the row of a call from its journaled form; :func:`~.journal.expand_event` gives the same row."""
        (
            number,
            api,
            provider,
            model,
            requested_model,
            start_ns,
            duration_ns,
            first_ns,
            messages,
            length,
            request_id,
            response_id,
            tier,
            finish_reason,
            tools,
            error_type,
            error_message,
            metadata,
        ) = event["call"]
        start_us = start_ns // 1000  # the resolution of the table
        start = datetime.fromtimestamp(start_us / 1e6, UTC)
        served_key = (model, requested_model, provider, tier, api, finish_reason)
        try:
            served = self._served[served_key]
        except (KeyError, TypeError):
            served = self._find_served(*served_key)
        usage = read_usage(event["usage"], provider=served.price_key["provider"])
        hashed = None if self._hashed_request_of is None else self._hashed_request_of(number)
        extra = event.get("extra")
        if hashed is not None and hashed.options:
            extra = _with_options(extra or {}, hashed.options)
        if extra is not None and (units := extra.get("token_details")):
            usage = usage._replace(details={**(usage.details or {}), **units})
        tool_usage = _tools_of(usage, extra)
        if usage.options is not None:
            asked = None if extra is None else extra.get("request_options")
            extra = {**(extra or {}), "request_options": _stated_options(asked, usage.options)}
        options = None if extra is None else extra.get("request_options")
        cost = self.prices.cost(usage, at=start, tools=tool_usage, options=options, **served.price_key)
        if error_type is not None and usage.prompt_tokens is None:
            cost = cost._replace(unpriced_reason=None)  # a failed call that used nothing is not unpriced
        metadata_text = served.metadata_text
        if metadata or not _has_counts(usage):
            unknown = _UNKNOWN_USAGE if error_type is None and not _has_counts(usage) else {}
            metadata_text = json_text({**unknown, **(metadata or {}), **(served.metadata or {})} or None)
        return _in_column_order(
            (
                *self._find_context(event["in"], event.get("tags")),
                *served.columns,
                start,
                uuid7(start_ns, number),
                start,
                datetime.fromtimestamp((start_us + duration_ns // 1000) / 1e6, UTC),
                kept_ms(duration_ns),
                None if first_ns is None else kept_ms(first_ns),
                messages,
                None,
                length,
                tools,
                tools > 0,
                error_type is None,
                None if error_type is None else short_text(error_type),
                None if error_message is None else clean_text(error_message),
                short_text(request_id) if type(request_id) is str else None,
                short_text(response_id) if type(response_id) is str else None,
                None if hashed is None else hashed.fingerprint,
                *_tokens(usage),
                *(cost if cost.charges is None and cost.cost_excludes is None else _stored_cost(cost)),
                metadata_text,
                server_json_text(event["usage"]),
                None if usage.details is None else json_text(usage.details),
                None if tool_usage is None else json_text(tool_usage),
                *(_NO_EXTRA if extra is None else _extra_values(extra)),
            )
        )

    def _find_context(self, run_context: str, scope_tags: Mapping[str, str] | None) -> tuple[Any, ...]:
        known = self._contexts.get(run_context)
        if known is None:
            values = json.loads(run_context)
            if unknown := values.keys() - {*_CONTEXT, "tags"}:
                raise ValueError(f"unknown fields in the run context of a call: {', '.join(sorted(unknown))}")
            context, tags = _cleaned(values), values.get("tags")
            known = _Context(tuple([context.get(name) for name in _CONTEXT]), tags, json_text(tags))
            _remember(self._contexts, run_context, known)
        tags_text = json_text(merge_tags(scope_tags, known.tags)) if scope_tags else known.tags_text
        return (*known.columns, tags_text)

    def _find_served(
        self, model: Any, requested_model: str, provider: str | None, tier: Any, api: str, finish_reason: Any
    ) -> _Served:
        # The SDK does not check the types of what a server sends, so they may not even be hashable.
        model, tier, finish_reason = (value if type(value) is str else None for value in (model, tier, finish_reason))
        key = (model, requested_model, provider, tier, api, finish_reason)
        known = self._served.get(key)
        if known is None:
            model, provider, metadata = served_model(model, requested_model, provider, None)
            values = (model, provider, tier, api, finish_reason)
            columns = tuple([None if value is None else short_text(value) for value in values])
            price_key = dict(zip(_PRICE_KEY, columns, strict=False))
            known = _Served(columns, price_key, metadata, json_text(metadata))
            if sum(map(len, filter(None, key))) <= _LONGEST_KEY:
                _remember(self._served, key, known)
        return known

    def _row_of_values(self, values: dict[str, Any]) -> tuple[Any, ...]:
        """Return the row of an event whose values have names; changes ``values``."""
        _cleaned(values)
        if values.get("time") is None:
            values["time"] = values.get("start_time") or values.get("end_time") or datetime.now(UTC)
        values.update(self._complete(values)._asdict())
        if isinstance(digits := values.get("fingerprint"), str):
            values["fingerprint"] = bytes.fromhex(digits)
        values["interaction_id"] = UUID(values["interaction_id"])
        for name in JSON_COLUMNS:
            if (value := values.get(name)) is not None:
                values[name] = (server_json_text if name in _OF_SERVER else json_text)(value)
        return tuple([values.get(name) for name in COLUMNS])

    def _complete(self, values: dict[str, Any]) -> Cost:
        """Fill in the tokens that the event leaves out, and return its cost."""
        kind = values["kind"]
        given = Cost(**{name: values.get(name) for name in Cost._fields})
        if kind == "stored":
            return given
        price_key: dict[str, Any] = {name: values.get(name) for name in _PRICE_KEY}
        price_key["options"] = values.get("request_options")
        if kind == "record":
            usage = _complete_tokens(values)
            price_key["tools"] = values.get("tool_usage")
            cost = self.prices.complete(given, usage, at=values["time"], **price_key)
        else:
            usage = read_usage(values.get("usage"), provider=values.get("provider"))
            values["token_details"] = usage.details
            if usage.options is not None:
                options = _stated_options(values.get("request_options"), usage.options)
                price_key["options"] = values["request_options"] = options
            price_key["tools"] = values["tool_usage"] = _tools_of(usage, values)
            values.update(zip(_TOKENS, _tokens(usage), strict=True))
            if values.get("success") and not _has_counts(usage):
                values["metadata"] = {**_UNKNOWN_USAGE, **(values.get("metadata") or {})}
            cost = self.prices.cost(usage, at=values["time"], **price_key)
        used_something = values.get("success") or usage.prompt_tokens is not None
        return cost if used_something else cost._replace(unpriced_reason=given.unpriced_reason)


_UNKNOWN_USAGE = {"usage": "unknown"}
"""Added to the metadata of a response that reported no tokens and no other units, unlike a call that failed."""


def _has_counts(usage: TokenUsage) -> bool:
    if usage.details is not None:
        return True
    return not (usage.prompt_tokens is usage.completion_tokens is usage.total_tokens is None)


def _tokens(usage: TokenUsage) -> tuple[Any, ...]:
    """Return the values of :data:`_TOKENS`."""
    prompt, completion, total, cached, written, reasoning, _, anomaly = usage[:8]
    uncached = None if prompt is None or cached is None else prompt - cached
    return prompt, completion, total, cached, uncached, written, reasoning, anomaly


def _tools_of(usage: TokenUsage, extra: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Return the uses of tools in the usage and in the response."""
    stated = None if extra is None else extra.get("tool_usage")
    if stated is None or usage.tools is None:
        return usage.tools or stated
    return {**usage.tools, **stated}


def _stored_cost(cost: Cost) -> tuple[Any, ...]:
    """Return the values of a cost as they are stored."""
    return cost._replace(
        charges=json_text(cost.charges),  # type: ignore[arg-type]
        cost_excludes=json_text(cost.cost_excludes),
    )


def _cleaned(values: dict[str, Any]) -> dict[str, Any]:
    """Convert times and clean texts in place.

    Raises:
        ValueError: A time cannot be read, or a number is out of range: the driver would store its lower 32 bits.
    """
    for name in _TIMES:
        if (value := values.get(name)) is not None:
            values[name] = parse_time(value)
    for name in _TEXT:
        if (value := values.get(name)) is not None:
            values[name] = clean_text(value) if name in _LONG_TEXT else short_text(value)
    for name in INTEGER_COLUMNS:
        if (value := values.get(name)) is not None and not _INT4_MIN <= value <= _INT4_MAX:
            raise ValueError(f"{name}={value}: out of the range of INTEGER")
    return values


def _remember(cache: dict[Any, Any], key: Any, value: Any) -> None:
    if len(cache) >= _MAX_CACHED:
        cache.clear()
    cache[key] = value


def _complete_tokens(values: dict[str, Any]) -> TokenUsage:
    """Fill in the values of a manually created record that follow from others, and return its tokens."""
    prompt, cached = values.get("prompt_tokens"), values.get("cached_tokens")
    if values.get("uncached_prompt_tokens") is None and prompt is not None and cached is not None:
        values["uncached_prompt_tokens"] = prompt - cached
    if values.get("total_tokens") is None and prompt is not None and values.get("completion_tokens") is not None:
        values["total_tokens"] = prompt + values["completion_tokens"]
    if values.get("has_tool_calls") is None and values.get("tool_call_count") is not None:
        values["has_tool_calls"] = values["tool_call_count"] > 0
    if values.get("duration_ms") is None and values.get("start_time") and values.get("end_time"):
        values["duration_ms"] = (values["end_time"] - values["start_time"]).total_seconds() * 1000
    return TokenUsage(
        prompt_tokens=prompt,
        completion_tokens=values.get("completion_tokens"),
        total_tokens=values.get("total_tokens"),
        cached_tokens=cached,
        cache_write_tokens=values.get("cache_write_tokens"),
        reasoning_tokens=values.get("reasoning_tokens"),
        details=values.get("token_details"),
    )


def parse_time(value: Any) -> datetime:
    """Return ISO 8601 text, seconds since the epoch or a datetime as a datetime.

    Raises:
        ValueError, TypeError, OverflowError: The value is none of these.
    """
    if isinstance(value, datetime):
        return value
    if isinstance(value, str):
        return datetime.fromisoformat(value)
    try:
        return datetime.fromtimestamp(value, UTC)
    except OSError as exc:  # raised by the C library of some systems
        raise ValueError(f"{value!r} is not a time: {exc}") from exc


def _with_options(extra: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Add the options of the request; a value in the response takes precedence."""
    return {**extra, "request_options": {**options, **extra.get("request_options", {})}}


def _stated_options(asked: Mapping[str, Any] | None, stated: Mapping[str, str | None]) -> dict[str, Any] | None:
    """Return request options with the region and the speed in the usage; None is the usual one."""
    options = {name: value for name, value in {**(asked or {}), **stated}.items() if value is not None}
    return options or None


def _extra_values(extra: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the values of :data:`_EXTRA`, as they are stored."""
    if unknown := extra.keys() - {*_EXTRA, *_DETAILS}:
        raise ValueError(f"unknown columns in the event of a call: {', '.join(sorted(unknown))}")
    extra = extra_columns(extra)
    values = (extra.get(name) for name in _EXTRA)
    return tuple(
        [
            None if value is None else server_json_text(value) if name in JSON_COLUMNS else short_text(value)
            for name, value in zip(_EXTRA, values, strict=True)
        ]
    )
