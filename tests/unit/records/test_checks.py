"""Outcomes and tags that a caller gives are stored as given, or refused with the reason."""

from __future__ import annotations

from typing import Any

import pytest

from rlm_cachetrack.errors import RecordError
from rlm_cachetrack.records import checked_outcome, checked_tags


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "an outcome needs success, score or label"),
        ({"success": 1}, "success=1: expected True, False or None"),
        ({"success": "yes"}, "success='yes'"),
        ({"score": float("nan")}, "expected a finite number"),
        ({"score": True}, "score=True: expected a number"),
        ({"score": "0.5"}, "score='0.5'"),
        ({"label": ""}, "1 to 256 characters"),
        ({"label": "x" * 257}, "1 to 256 characters"),
    ],
)
def test_an_outcome_that_cannot_be_stored_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(RecordError, match=message):
        checked_outcome(given.get("success"), given.get("score"), given.get("label"))


def test_zero_and_false_are_outcomes() -> None:
    assert checked_outcome(False, 0, None) == {"success": False, "score": 0, "label": None}


def test_tags_become_text() -> None:
    given = {"user": "u-17", "seed": 3, "share": 0.5, "cold": True, "nul": "a\0b"}
    assert checked_tags(given) == {"user": "u-17", "seed": "3", "share": "0.5", "cold": "true", "nul": "a\ufffdb"}
    assert checked_tags(None) is None


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        (["user"], "expected a mapping"),
        ({"user": None}, "tag user=None: expected a text"),
        ({"user": {"id": 1}}, "tag user="),
        ({"": "x"}, "a name of 1 to 64 characters"),
        ({5: "x"}, "tag 5: expected a name"),
        ({"user": "x" * 257}, "its value has 257 characters"),
        ({str(number): "x" for number in range(17)}, "17 tags: expected at most 16"),
    ],
)
def test_tags_that_cannot_be_stored_are_refused(tags: Any, message: str) -> None:
    with pytest.raises(RecordError, match=message):
        checked_tags(tags)
