"""The formats that an import reads: a line of a file becomes an event. Prompts and completions are not kept.

* our own export (CSV, JSON lines, Parquet): rows are stored unchanged;
* responses of the OpenAI API as JSON lines: ``chat.completion``, ``response``, ``text_completion``;
* output files of the Batch API. Source: https://developers.openai.com/api/docs/guides/batch, 2026-11-23;
* LiteLLM's spend logs (``LiteLLM_SpendLogs`` as a JSON array, a page with ``data``, JSON lines or CSV). Source:
  https://github.com/BerriAI/litellm schema.prisma and https://docs.litellm.ai/docs/proxy/cost_tracking, 2026-11-23;
* OpenRouter's activity as CSV. Source: https://openrouter.ai/docs/cookbook/administration/activity-export and files
  that users published, 2026-12-01.

Equal lines become equal events with the same ``interaction_id``, so a file that is imported twice is stored once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from rlm_cachetrack._process import number_of, uuid7
from rlm_cachetrack.errors import RecordError
from rlm_cachetrack.records import COLUMNS, JSON_COLUMNS, LLMInteractionRecord, event_of_record
from rlm_cachetrack.usage import locate_usage, read_usage

from .export_formats import COLUMN_TYPES

_RESPONSES = {"chat.completion": "chat", "response": "responses", "text_completion": "completions"}
_INT4_MAX = 2**31 - 1
_LITELLM = frozenset({"call_type", "spend"})
_OPENROUTER = frozenset({"generation_id", "created_at", "cost_total", "model_permaslug"})
_CSV_PARSERS: Mapping[str, tuple[Callable[[str], Any], str]] = {
    "integer": (int, "an integer"),
    "number": (float, "a number"),
    "boolean": (lambda text: {"true": True, "false": False}[text.lower()], "true or false"),
}


class InvalidLineError(Exception):
    """A line has an unknown format, or lacks a required field. The message does not quote its content."""


class EventReader:
    """Converts the lines of one file to events.

    Args:
        query_id: The query of calls without one.
        run_id: The run of calls without one. Default: the time of the first such call.
        moment: The time of calls whose line contains none.
        batch_id: The batch whose output file it is, if known.
    """

    def __init__(self, query_id: str, run_id: datetime | None, moment: datetime, batch_id: str | None = None) -> None:
        self._batch_id = batch_id
        self._query_id = query_id
        self._run_id = run_id
        self._moment = moment

    def event(self, value: Any, source: str) -> dict[str, Any]:
        """Return the event for one line.

        Args:
            value: The decoded line.
            source: The line's text, from which the id of a call without one is derived.

        Raises:
            InvalidLineError: The line cannot be imported.
        """
        if not isinstance(value, Mapping):
            raise InvalidLineError("expected a JSON object")
        if value.get("interaction_id") and "query_id" in value and "run_id" in value:
            return _own(value)
        if "custom_id" in value and ("response" in value or "error" in value):
            return self._batch(value, source)
        if value.get("object") in _RESPONSES:
            return self._response(value, source)
        if value.keys() >= _LITELLM:
            return self._litellm(value, source)
        if value.keys() >= _OPENROUTER:
            return self._openrouter(value)
        raise InvalidLineError(
            "expected a row of our export, a response of the OpenAI API, a line of a Batch output file, a LiteLLM "
            "spend log, or a row of OpenRouter's activity"
        )

    def _response(self, body: Mapping[str, Any], source: str) -> dict[str, Any]:
        created = moment_of(body.get("created_at", body.get("created")))
        if created is None:
            raise InvalidLineError("the response has neither created nor created_at")
        completed = moment_of(body.get("completed_at"))
        usage = _usage(body)
        calls, reason = _tools_and_finish(body)
        failed = body.get("status") == "failed"
        return self._event(
            kind="call",
            identity=str(body.get("id") or source),
            start=created,
            end=completed,
            model=body.get("model"),
            usage=usage,
            provider="openai",
            api=_RESPONSES[str(body.get("object"))],
            service_tier=text_of(body.get("service_tier")),
            finish_reason=reason,
            has_tool_calls=calls > 0,
            tool_call_count=calls,
            success=not failed,
            error_type=_code(body.get("error")) if failed else None,
            metadata=_origin("openai-response", response_id=body.get("id")),
        )

    def _batch(self, line: Mapping[str, Any], source: str) -> dict[str, Any]:
        response = line.get("response")
        if not isinstance(response, Mapping):
            raise InvalidLineError(f"the request has no response ({_code(line.get('error')) or 'unknown error'})")
        body, status = response.get("body"), response.get("status_code")
        if not isinstance(body, Mapping):
            raise InvalidLineError("the response has no body")
        if status != 200:
            # The request was not billed, and the line has neither its time nor its model.
            raise InvalidLineError(f"the request failed with status {status if isinstance(status, int) else 'unknown'}")
        if body.get("object") == "list":
            event = self._embeddings(body, str(line.get("id") or source))
        elif body.get("object") in _RESPONSES:
            event = self._response(body, source)
        else:
            raise InvalidLineError("the response is of an API that is not supported")
        event["service_tier"] = "batch"  # the body has "default", but the Batch API's prices apply
        event["request_id"] = text_of(response.get("request_id"))
        ids = {"response_id": body.get("id"), "custom_id": line.get("custom_id"), "batch_id": self._batch_id}
        event["metadata"] = _origin("openai-batch", **ids)
        # created is when the batch processed the request, so there is no latency to measure.
        event["end_time"] = event["duration_ms"] = None
        return event

    def _embeddings(self, body: Mapping[str, Any], identity: str) -> dict[str, Any]:
        usage = _usage(body)
        if usage is None:
            raise InvalidLineError("the response has no usage")
        return self._event(
            kind="call",
            identity=identity,
            start=self._moment,  # a response of embeddings has no time
            end=None,
            model=body.get("model"),
            usage=usage,
            provider="openai",
            api="embeddings",
            success=True,
        )

    def _openrouter(self, row: Mapping[str, Any]) -> dict[str, Any]:
        start = moment_of(row.get("created_at"))
        if start is None:
            raise InvalidLineError("created_at is missing or is not a date and time")
        prompt, cached = _whole(row.get("tokens_prompt")), _whole(row.get("tokens_cached"))
        milliseconds, first = _amount(row.get("generation_time_ms")), _amount(row.get("time_to_first_token_ms"))
        return self._event(
            kind="record",
            identity=str(row["generation_id"]),
            start=start,
            end=None if milliseconds is None else start + timedelta(milliseconds=milliseconds),
            model=row.get("model_permaslug"),
            provider="openrouter",
            prompt_tokens=prompt,
            completion_tokens=_whole(row.get("tokens_completion")),
            cached_tokens=cached,
            reasoning_tokens=_whole(row.get("tokens_reasoning")),
            total_cost=_amount(row.get("cost_total")),
            price_source="provider",
            time_to_first_token_ms=first,
            finish_reason=text_of(row.get("finish_reason_normalized")),
            success=True,
            response_id=text_of(row.get("generation_id")),
            metadata=_origin("openrouter", served_by=row.get("provider_name"), app=row.get("app_name")),
        )

    def _litellm(self, row: Mapping[str, Any], source: str) -> dict[str, Any]:
        if str(row.get("cache_hit")).lower() == "true":
            raise InvalidLineError("served from LiteLLM's own cache: no model was called")
        if row.get("mcp_namespaced_tool_name"):
            raise InvalidLineError("a tool call: no model was called")
        start, end = moment_of(row.get("startTime")), moment_of(row.get("endTime"))
        if start is None:
            raise InvalidLineError("startTime is missing or is not a date and time")
        metadata = mapping_of(_decoded(row.get("metadata")))
        raw = _litellm_usage(row, metadata)
        usage = read_usage(raw)
        prompt = usage.prompt_tokens if usage.prompt_tokens is not None else _count(row.get("prompt_tokens"))
        completion = usage.completion_tokens
        if completion is None:
            completion = _count(row.get("completion_tokens"))
        failed = str(row.get("status") or metadata.get("status") or "success").lower() == "failure"
        spend = _amount(row.get("spend"))
        first = moment_of(row.get("completionStartTime"))
        return self._event(
            kind="record",
            identity=str(row.get("request_id") or source),
            start=start,
            end=end,
            model=_model(row),
            provider=text_of(row.get("custom_llm_provider")),
            api=text_of(row.get("call_type")),
            prompt_tokens=prompt,
            completion_tokens=completion,
            total_tokens=usage.total_tokens or _count(row.get("total_tokens")),
            cached_tokens=usage.cached_tokens,
            uncached_prompt_tokens=usage.uncached_prompt_tokens,
            cache_write_tokens=usage.cache_write_tokens,
            reasoning_tokens=usage.reasoning_tokens,
            usage=raw,
            # LiteLLM writes 0 if it knows no price, so 0 is not a cost if tokens were used.
            total_cost=None if failed or (spend == 0 and prompt) else spend,
            price_source="litellm" if spend and not failed else None,
            time_to_first_token_ms=_between(start, first) if first and end and first < end else None,
            success=not failed,
            error_type=_code(metadata.get("error_information")) if failed else None,
            metadata=_origin("litellm", request_id=row.get("request_id"), session_id=row.get("session_id")),
        )

    def _event(
        self, *, kind: str, identity: str, start: datetime, end: datetime | None, model: Any, **more: Any
    ) -> dict[str, Any]:
        if not isinstance(model, str) or not model:
            raise InvalidLineError("model is missing")
        if self._run_id is None:
            self._run_id = start
        number = number_of(identity)
        return {
            "kind": kind,
            **dict.fromkeys(COLUMNS),
            **more,
            "query_id": self._query_id,
            "run_id": self._run_id.isoformat(),
            "interaction_id": str(uuid7(int(start.timestamp() * 1_000_000) * 1000, number)),
            "time": start.isoformat(),
            "start_time": start.isoformat(),
            "end_time": None if end is None else end.isoformat(),
            "duration_ms": None if end is None else _between(start, end),
            "model": model,
        }


def _own(row: Mapping[str, Any]) -> dict[str, Any]:
    given = {column: row[column] for column in COLUMNS if row.get(column) is not None}
    for column in given.keys() & JSON_COLUMNS:
        given[column] = _decoded(given[column])
    for column, value in given.items():
        if COLUMN_TYPES[column] == "time":
            moment = moment_of(value)
            if moment is None:
                raise InvalidLineError(f"{column} is not a date and time")
            given[column] = moment
        elif COLUMN_TYPES[column] == "text" and not isinstance(value, str):
            raise InvalidLineError(f"{column} is not text")
    try:
        UUID(given["interaction_id"])
        record = LLMInteractionRecord(**{"query_id": "", "model": "", "cached_tokens": None, **given})
        record.check()
        if record.time is None:
            raise InvalidLineError("time is missing")
        event = event_of_record(record, {})
    except RecordError as exc:
        raise InvalidLineError(str(exc).partition("=")[0] + ": invalid value") from exc
    except (ValueError, TypeError, AttributeError) as exc:
        raise InvalidLineError("a column has an invalid value") from exc
    return {**event, "kind": "stored"}


def own_row_of_csv(row: Mapping[str, str | None]) -> dict[str, Any]:
    """Convert the fields of our own CSV to their types; the fields of other CSV stay text.

    Raises:
        InvalidLineError: A field is not of its column's type.
    """
    found: dict[str, Any] = {column: text or None for column, text in row.items()}
    if "interaction_id" not in row:
        return found
    for column, text in found.items():
        parser = _CSV_PARSERS.get(COLUMN_TYPES.get(column, "text"))
        if text is not None and parser is not None:
            parse, expected = parser
            try:
                found[column] = parse(text)
            except (ValueError, KeyError) as exc:
                raise InvalidLineError(f"{column}: expected {expected}") from exc
    return found


# -- parts of a line ---------------------------------------------------------------------------------------------------


def _usage(body: Mapping[str, Any]) -> dict[str, Any] | None:
    raw = body.get("usage")
    if not isinstance(raw, Mapping):
        raw = locate_usage(dict(body))
    return dict(raw) if isinstance(raw, Mapping) else None


def _tools_and_finish(body: Mapping[str, Any]) -> tuple[int, str | None]:
    calls, reason = 0, text_of(body.get("status"))
    for item in _list(body.get("output")):
        calls += item.get("type") == "function_call"
    for choice in _list(body.get("choices")):
        reason = text_of(choice.get("finish_reason"))
        message = choice.get("message")
        calls += len(_list(message.get("tool_calls"))) if isinstance(message, Mapping) else 0
    return calls, reason


def _whole(value: Any) -> int | None:
    """Return a count of a CSV field; None if it is empty or not a count."""
    try:
        return _count(int(value))
    except (TypeError, ValueError):
        return None


def _list(value: Any) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def _litellm_usage(row: Mapping[str, Any], metadata: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the provider's usage object."""
    if isinstance(usage := metadata.get("usage_object"), Mapping):
        return dict(usage)
    if isinstance(more := metadata.get("additional_usage_values"), Mapping):
        # Older versions store the provider's object without the counts that have separate columns.
        counts = {name: _count(row.get(name)) for name in ("prompt_tokens", "completion_tokens", "total_tokens")}
        return {**more, **counts}
    return None


def mapping_of(value: Any) -> Mapping[str, Any]:
    """Return a mapping unchanged, and an empty one for other values."""
    return value if isinstance(value, Mapping) else {}


def _model(row: Mapping[str, Any]) -> Any:
    """Return the model's name without the provider prefix, which price lists do not have."""
    model, provider = row.get("model"), row.get("custom_llm_provider")
    if isinstance(model, str) and isinstance(provider, str) and provider:
        return model.removeprefix(f"{provider}/")
    return model


def _code(error: Any) -> str | None:
    """Return the code of an error, not its message, which may quote the prompt."""
    if not isinstance(error, Mapping):
        return None
    code = error.get("code") or error.get("type") or error.get("error_class") or error.get("error_code")
    return str(code)[:100] if code else None


def _origin(source: str, **ids: Any) -> dict[str, Any]:
    return {"imported_from": source, **{name: str(value)[:500] for name, value in ids.items() if value}}


def _decoded(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError:
            return None
    return value


def moment_of(value: Any) -> datetime | None:
    """Parse seconds or milliseconds since 1970, or ISO 8601; without an offset it is UTC, as LiteLLM writes it."""
    try:
        if isinstance(value, datetime):
            moment = value
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            moment = datetime.fromtimestamp(value / 1000 if value > 1e11 else value, UTC)
        elif isinstance(value, str):
            moment = datetime.fromisoformat(value)
        else:
            return None
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _between(start: datetime, end: datetime) -> float:
    return max((end - start).total_seconds() * 1000, 0.0)


def text_of(value: Any) -> str | None:
    """Return the first 500 characters of a string; None for an empty one and for other values."""
    return value[:500] if isinstance(value, str) and value else None


def _count(value: Any) -> int | None:
    try:
        number = int(value)
    except (ValueError, TypeError, OverflowError):
        return None
    return number if 0 <= number <= _INT4_MAX else None


def _amount(value: Any) -> float | None:
    try:
        number = float(value)
    except (ValueError, TypeError):
        return None
    return number if 0 <= number < float("inf") else None
