"""Human-readable numbers, amounts and durations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from rlm_cachetrack.formatting import text


@pytest.mark.parametrize(
    ("function", "value", "shown"),
    [
        (text.usd, None, "–"),  # noqa: RUF001
        (text.usd, 0.0, "$0"),
        (text.usd, 0.0136, "$0.0136"),
        (text.usd, 0.5, "$0.5000"),
        (text.usd, 0.00123456, "$0.00123"),
        (text.usd, 0.0000045, "$0.0000045"),
        (text.usd, 3e-12, "$3.0e-12"),
        (text.usd, 1234.5, "$1,234.50"),
        (text.usd, -0.25, "-$0.2500"),
        (text.usd, float("nan"), "–"),  # noqa: RUF001
        (text.rate, None, "–"),  # noqa: RUF001
        (text.rate, 0.0, "0.0%"),
        (text.rate, 0.0001, "<0.1%"),
        (text.rate, 0.9999, ">99.9%"),
        (text.rate, 1.0, "100.0%"),
        (text.percentage, 33.333, "33.3%"),
        (text.number, None, "–"),  # noqa: RUF001
        (text.number, 1234567, "1,234,567"),
        (text.large_number, None, "–"),  # noqa: RUF001
        (text.large_number, 9_999_999, "9,999,999"),
        (text.large_number, 12_345_678, "12.3 M"),
        (text.large_number, 999_960_000, "1.0 B"),
        (text.large_number, 2_178_000_000, "2.2 B"),
        (text.large_number, 5.1e15, "5,100.0 T"),
        (text.duration, 0.42, "0.4 ms"),
        (text.duration, -10_051.3, "-10.1 s"),
        (text.duration, 999.4, "999 ms"),
        (text.duration, 1500, "1.5 s"),
        (text.duration, 125_000, "2 min 05 s"),
        (text.duration, 7_380_000, "2 h 03 min"),
        (text.size, 1, "1 byte"),
        (text.size, 49_100_000, "49.1 MB"),
    ],
)
def test_numbers_are_formatted_for_people(function: Callable[[Any], str], value: float | None, shown: str) -> None:
    assert function(value) == shown


def test_the_amounts_of_a_column_have_the_same_number_of_decimals() -> None:
    assert text.usd_column([1234.5678, -0.0136, 0.0, None]) == ["$1,234.5678", "-$0.0136", "$0", "–"]  # noqa: RUF001
    assert text.usd_column([12.504, 3e-12, 0.0000045]) == ["$12.50", "$3.0e-12", "$0.0000045"]
    assert text.usd_column([]) == []


def test_changes_have_a_sign_unless_they_are_shown_as_nothing() -> None:
    assert text.signed_usd_column([1.5, -0.25, 1e-17, None]) == ["+$1.50", "-$0.25", "$0", text.NONE]
    assert text.signed_usd_column([0.0504, -0.00001, 0.0]) == ["+$0.0504", "$0.0000", "$0"]
    assert text.signed_usd_column([]) == []


def test_every_digit_of_an_amount_in_a_column_is_that_of_the_exact_amount() -> None:
    assert text.usd_column([8.96698, 16.58255, 2.5015, 0.0312]) == ["$8.9670", "$16.5826", "$2.5015", "$0.0312"]
    assert text.usd_column([0.077472, 0.000123]) == ["$0.077472", "$0.000123"]


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ((0.598, 0.695, 3200, 0.0036, 0, 13), "59.8% read from cache; 69.5% achievable (+3,200 tokens, $0.0036)"),
        ((0.598, 0.695, 3200, None, 0, 13), "59.8% read from cache; 69.5% achievable (+3,200 tokens)"),
        ((0.71, 0.71, 0, 0.0, 0, 13), "71.0% read from cache; no avoidable misses"),
        (
            (0.0, 0.0, 0, 0.0, 5, 5),
            "0.0% read from cache; miss reasons unknown: 5 of 5 calls have no fingerprint",
        ),
        ((None, None, 0, None, 0, 2), "not reported by any call"),
    ],
)
def test_the_two_hit_rates_are_shown_with_what_lies_between(values: tuple[Any, ...], shown: str) -> None:
    assert text.hit_rates(*values) == shown
