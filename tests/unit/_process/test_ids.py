"""Ids are version 7 UUIDs that contain their time in milliseconds."""

from __future__ import annotations

import time
from uuid import RFC_4122, UUID

from rlm_cachetrack._process import is_named, new_id, number_of, uuid7


def test_ids_are_version_7_uuids_with_their_time_in_milliseconds() -> None:
    """RFC 9562, 5.7: 48 bits of Unix milliseconds, version 7, variant 10."""
    value = uuid7(0x0123_4567_89AB * 1_000_000 + 999_999)
    assert value.int >> 80 == 0x0123_4567_89AB
    assert (value.version, value.variant) == (7, RFC_4122)


def test_ids_sort_by_time_and_differ() -> None:
    before = time.time_ns() // 1_000_000
    ids = [new_id() for _ in range(5000)]
    after = time.time_ns() // 1_000_000
    assert len(set(ids)) == 5000
    stamps = [UUID(value).int >> 80 for value in ids]
    assert stamps == sorted(stamps)
    assert before <= stamps[0] <= stamps[-1] <= after
    assert uuid7(1_000_000) < uuid7(2_000_000)


def test_ids_of_calls_contain_their_number_and_sort_by_it_within_a_millisecond() -> None:
    first = 1_800_000_000_000_000_000
    ids = [uuid7(first + step * 300_000, 2**61 + step) for step in range(3600)]
    assert ids == sorted(set(ids))
    for step, one in enumerate(ids):
        assert (one.version, one.variant) == (7, RFC_4122)
        assert one.int >> 80 == (first + step * 300_000) // 1_000_000
        assert one.int & 2**62 - 1 == 2**61 + step
    assert {one.int >> 64 & 0xFFF for one in ids} == {0}  # constant bits take no space in a columnstore


def test_an_id_with_the_number_of_a_text_is_named_by_it() -> None:
    named = uuid7(time.time_ns(), number_of("resp_1"))
    assert is_named(named, "resp_1")
    assert not is_named(named, "resp_2")
    assert not is_named(uuid7(time.time_ns()), "resp_1")
