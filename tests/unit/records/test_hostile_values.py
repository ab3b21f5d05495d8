"""The values of a record are checked before it is journaled; every error is a RecordError, whatever the caller
passes."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any

import pytest

from rlm_cachetrack import LLMInteractionRecord, query_run, tags
from rlm_cachetrack.errors import RecordError, safe_repr
from rlm_cachetrack.records import aware, checked_json, checked_outcome, checked_query_id, checked_tags

EAST, WEST = timezone(timedelta(hours=14)), timezone(timedelta(hours=-12))


class Hostile:
    """Raises in every method that an error message or JSON could call."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    __str__ = __repr__


class HostileZone(tzinfo):
    def __repr__(self) -> str:  # names the test, the same in every worker
        return "HostileZone()"

    def utcoffset(self, moment: datetime | None) -> timedelta:
        raise RuntimeError("no offset")


def nested(levels: int, *, lists: bool = False) -> dict[str, Any]:
    value: Any = 1
    for _ in range(levels - 1):
        value = [value] if lists else {"a": value}
    return {"a": value}


@pytest.mark.parametrize("lists", [False, True])
def test_json_may_be_nested_64_levels_deep(lists: bool) -> None:
    assert checked_json(nested(64, lists=lists), "metadata") is not None
    for levels in (65, 600, 900, 100_000):
        with pytest.raises(RecordError, match="metadata is nested more than 64 levels deep"):
            checked_json(nested(levels, lists=lists), "metadata")
        with pytest.raises(RecordError, match="nested more than 64"):
            query_run("q", metadata=nested(levels, lists=lists))


def circular() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["self"] = value
    return value


@pytest.mark.parametrize(
    "value",
    [
        {"a": Hostile()},
        {Hostile(): 1},
        {("a", "b"): 1},
        {"a": 10**5000},
        {"a": "x" * (1 << 20)},
        circular(),
        Hostile(),
        [1],
        "text",
    ],
    ids=["value", "key", "tuple key", "huge number", "large", "circular", "object", "list", "text"],
)
def test_metadata_that_cannot_be_stored_is_a_record_error(value: Any) -> None:
    with pytest.raises(RecordError, match="metadata"):
        checked_json(value, "metadata")
    with pytest.raises(RecordError):
        query_run("q", metadata=value)


MOMENTS: list[Any] = [
    datetime.min.replace(tzinfo=EAST),
    datetime.max.replace(tzinfo=WEST),
    datetime(2026, 1, 1, tzinfo=HostileZone()),
    datetime(2026, 1, 1),
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-12:00",
    "2026-13-01T00:00:00Z",
    "",
    2026,
    Hostile(),
]


@pytest.mark.parametrize("moment", MOMENTS, ids=safe_repr)
def test_a_moment_that_is_none_is_a_record_error(moment: Any) -> None:
    with pytest.raises(RecordError, match="run_id"):
        aware(moment, "run_id")
    with pytest.raises(RecordError):
        query_run("q", run_id=moment)
    with pytest.raises(RecordError):
        LLMInteractionRecord("q", moment, "m").check()


def test_the_first_and_the_last_moment_are_accepted() -> None:
    for moment in (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)):
        assert aware(moment.isoformat(), "run_id") == moment


CALLS: dict[str, Callable[[Any], object]] = {
    "query_id": checked_query_id,
    "success": lambda value: checked_outcome(value, None, None),
    "score": lambda value: checked_outcome(None, value, None),
    "label": lambda value: checked_outcome(None, None, value),
    "tags": checked_tags,
    "tag": lambda value: checked_tags({"a": value}),
    "tag name": lambda value: checked_tags({value: "a"}),
    "tags()": lambda value: tags(a=value),
    "model": lambda value: LLMInteractionRecord("q", datetime.now(UTC), value).check(),
    "prompt_tokens": lambda value: LLMInteractionRecord("q", datetime.now(UTC), "m", prompt_tokens=value).check(),
    "total_cost": lambda value: LLMInteractionRecord("q", datetime.now(UTC), "m", total_cost=value).check(),
    "flag": lambda value: LLMInteractionRecord("q", datetime.now(UTC), "m", success=value).check(),
    "model_index": lambda value: query_run("q").recursion(model_index=value),
    "max_depth": lambda value: query_run("q").recursion(max_depth=value),
    "iteration": lambda value: setattr(query_run("q"), "iteration", value),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("value", [Hostile(), float("nan"), float("inf"), 10**400, 10**5000, -1, b"x"], ids=safe_repr)
def test_a_wrong_value_of_any_kind_is_a_record_error(name: str, value: Any) -> None:
    numbers_are_text = name in ("tag", "tags()") and not isinstance(value, (Hostile, bytes)) and value != 10**5000
    if (numbers_are_text and value != 10**400) or (name == "score" and value == -1):
        CALLS[name](value)
        return
    with pytest.raises(RecordError):
        CALLS[name](value)


CYCLE: list[Any] = []
CYCLE.append(CYCLE)


@pytest.mark.parametrize("name", ["provider", "error_message", "request_id", "service_tier", "model_type", "trace_id"])
@pytest.mark.parametrize("value", [Hostile(), CYCLE, {"a": 1}, object(), b"x"], ids=lambda value: type(value).__name__)
def test_a_text_field_of_a_record_takes_text(name: str, value: Any) -> None:
    with pytest.raises(RecordError, match=f"{name}="):
        LLMInteractionRecord("q", datetime.now(UTC), "m", **{name: value}).check()
    for accepted in ("text", None, 7, datetime.now(UTC), uuid.UUID(int=1)):
        LLMInteractionRecord("q", datetime.now(UTC), "m", **{name: accepted}).check()


def test_a_message_shows_a_value_shortly_and_survives_its_repr() -> None:
    assert safe_repr(Hostile()) == "<Hostile>"
    assert safe_repr("a") == "'a'"
    assert len(safe_repr("x" * 10_000)) == 120
