"""Format numbers, times and untrusted text, in the same way for terminals, web pages, reports and notebooks.

An unknown value is shown as a dash, never as 0. A rate is shown as 0% or 100% only if it is exactly that.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

NONE = "–"  # noqa: RUF001
"""Shown for NULL: not known, not reported. Never for 0."""

_MOST_DECIMALS = 6  # in a column of amounts
_NOTHING_USD = 1e-12  # less than a thousandth of the cheapest token is a rounding error


def clean(text: object) -> str:
    r"""Put text on one line and make every unprintable character visible, as ``\x1b``."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in str(text))


def clean_lines(text: str) -> str:
    """Clean each line of a message that quotes untrusted text; keep the line breaks."""
    return "\n".join(map(clean, text.split("\n")))


def number(value: float | None) -> str:
    """Format a whole number with thousands separators."""
    return NONE if value is None else f"{value:,.0f}"


def large_number(value: float | None) -> str:
    """Format a count for a tile: in full up to 10 million, then as ``12.3 M``, ``2.2 B``, ``1.0 T``."""
    if value is None or abs(value) < 1e7:
        return number(value)
    for unit in ("M", "B", "T"):
        value /= 1000 if unit != "M" else 1e6
        if abs(value) < 999.95 or unit == "T":
            break
    return f"{value:,.1f} {unit}"


def rate(value: float | None) -> str:
    """Format a fraction 0-1 as a percentage: ``59.8%``. Only 0 shows as ``0.0%``, and only 1 as ``100.0%``."""
    if value is None or not math.isfinite(value):
        return NONE
    if 0 < value < 0.001:
        return "<0.1%"
    return ">99.9%" if 0.999 < value < 1 else f"{value:.1%}"


def percentage(value: float | None) -> str:
    """Format a percentage 0-100, like :func:`rate`."""
    return rate(None if value is None else value / 100)


def usd(value: float | None, decimals: int | None = None) -> str:
    """Format US dollars: two decimals from $1 on, at least three significant digits below.

    Args:
        value: The amount; None: not known.
        decimals: The number of decimals; None: as many as the amount needs.
    """
    if value is None or not math.isfinite(value):
        return NONE
    amount, sign = abs(value), "-" if value < 0 else ""
    if amount < _NOTHING_USD:
        return "$0"
    if decimals is not None:
        return f"{sign}${amount:,.{decimals}f}"
    if amount >= 1:
        return f"{sign}${amount:,.2f}"
    digits = max(4, 2 - math.floor(math.log10(amount)))
    if digits > 10:
        return f"{sign}${amount:.1e}"
    text = f"{amount:.{digits}f}"
    while len(text) > 6 and text.endswith("0"):  # $0.00000450; at least four decimals are kept, so that columns line up
        text = text[:-1]
    return f"{sign}${text}"


def usd_column(values: Iterable[float | None]) -> list[str]:
    """Format the amounts of a column with the number of decimals that the smallest of them needs, up to six.

    Every digit is one of the exact amount. An amount that needs more than six decimals keeps its own format, and
    ``$0``, which is exactly zero, has no decimals.
    """
    amounts = list(values)
    texts = list(map(usd, amounts))
    needed = [_decimals(text) for text in texts]
    decimals = max((each for each in needed if each <= _MOST_DECIMALS), default=0)
    return [
        usd(amount, decimals) if 0 < each <= _MOST_DECIMALS else text
        for amount, text, each in zip(amounts, texts, needed, strict=True)
    ]


def signed_usd(value: float | None, decimals: int | None = None) -> str:
    """Format a change in US dollars: ``+$1.20``, ``-$1.20``; ``$0`` has no sign. See :func:`usd`."""
    shown = usd(value, decimals)
    if not any(digit in shown for digit in "123456789"):
        return shown.removeprefix("-")
    return f"+{shown}" if value is not None and value > 0 else shown


def signed_usd_column(values: Sequence[float | None]) -> list[str]:
    """Format a column of changes in US dollars with the number of decimals that its largest change needs, 2 or more."""
    largest = max((abs(value) for value in values if value is not None), default=None)
    decimals = max(_decimals(usd(largest)), 2)
    return [signed_usd(value, decimals) for value in values]


def _decimals(text: str) -> int:
    """Return the number of decimals of an amount; 0 for ``$0``, ``$3.0e-12`` and a dash."""
    fraction = text.partition(".")[2]
    return len(fraction) if fraction.isdigit() else 0


def duration(milliseconds: float | None) -> str:
    """Format a time span, from ``0.4 ms`` to ``3 h 02 min``."""
    if milliseconds is None or not math.isfinite(milliseconds):
        return NONE
    if milliseconds < 0:
        return f"-{duration(-milliseconds)}"
    if milliseconds < 999.5:
        return f"{milliseconds:.1f} ms" if milliseconds < 9.95 else f"{milliseconds:.0f} ms"
    seconds = milliseconds / 1000
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, left = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {left:02} s"
    return f"{minutes // 60:,} h {minutes % 60:02} min"


def size(count: float) -> str:
    """Format a number of bytes, from ``17 bytes`` to ``1.2 GB``."""
    if count < 1000:
        return f"{count:.0f} byte{'' if count == 1 else 's'}"
    for unit in ("kB", "MB"):
        count /= 1000
        if count < 999.95:
            return f"{count:.1f} {unit}"
    return f"{count / 1000:,.1f} GB"


def moment(value: datetime | None, *, full: bool = False) -> str:
    """Format a datetime in UTC, to the second or in full, as one word that ``--run`` accepts."""
    if value is None:
        return NONE
    text = value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds" if full else "seconds")
    return f"{text}Z"


def day(value: datetime) -> str:
    """Format the date of a datetime in UTC."""
    return value.astimezone(UTC).date().isoformat()


_VERDICTS = {
    "first_call": "first call",
    "below_minimum": "below minimum length",
    "prefix_changed": "prompt changed",
    "settings_changed": "setting changed",
    "context_compacted": "context compacted",
    "expired": "expired",
    "model_changed": "model changed",
    "key_changed": "cache key changed",
    "breakpoint_missing": "breakpoint missing",
    "concurrent": "simultaneous calls",
    "provider_miss": "not read by the provider",
    "hit": "hit",
    "partial_hit": "partial hit",
    "not_reported": "not reported",
    "unknown": "unknown",
}


def verdict(name: str) -> str:
    """Return the display name of a verdict; see ``CallVerdict``."""
    return _VERDICTS.get(name, name)


def judged_words(group: Mapping[str, Any]) -> str:
    """Return how many runs of a group have an outcome, such as ``2 judged``; empty if all have one."""
    judged, scored = group["judged_runs"], group["scored_runs"]
    covered, word = (scored, "with a score") if scored and not judged else (judged, "judged")
    return "" if covered == group["runs"] else f"{number(covered)} {word}"


def outcome_words(run: Mapping[str, Any]) -> str:
    """Return the outcome of a run, such as "succeeded, score 0.83, label pass"; empty if none was recorded."""
    success, score, label = run.get("success"), run.get("score"), run.get("outcome_label")
    words = [] if success is None else ["succeeded" if success else "failed"]
    if score is not None:
        words.append(f"score {score:.4g}")
    if label is not None:
        words.append(f"label {clean(label)}")
    return ", ".join(words)


def dropped_details(dropped: int, calls: int) -> str:
    """Return a note that some of a run's calls are not stored any more; empty if none was dropped."""
    if not dropped:
        return ""
    return (
        f"Details dropped by retention: {number(dropped)} of {number(calls)} calls of this run were deleted. "
        "The totals are those stored at its end."
    )


def hit_rates(
    effective: float | None,
    achievable: float | None,
    tokens_lost: int,
    usd_lost: float | None,
    unknown: int,
    calls: int,
) -> str:
    """Format the effective and the achievable hit rate, and their difference.

    Args:
        effective: The share of the prompt tokens that was read from the cache, 0-1; None if not reported.
        achievable: That share without the avoidable misses.
        tokens_lost: The tokens that make the difference.
        usd_lost: Their extra cost; None if unpriced.
        unknown: The calls whose miss reasons are unknown.
        calls: All calls.

    Returns:
        For example ``59.8% read from cache; 69.5% achievable (+3,200 tokens, $0.0072)``.
    """
    if effective is None:
        return "not reported by any call"
    text = f"{rate(effective)} read from cache"
    if tokens_lost:
        cost = f", {usd(usd_lost)}" if usd_lost else ""
        text += f"; {rate(achievable)} achievable (+{number(tokens_lost)} tokens{cost})"
    elif not unknown:
        text += "; no avoidable misses"
    if unknown:
        text += f"; miss reasons unknown: {number(unknown)} of {number(calls)} calls have no fingerprint"
    return text


def clock(value: datetime, *, full: bool = False) -> str:
    """Format the time of day of a datetime in UTC, to the second or the millisecond."""
    return value.astimezone(UTC).time().isoformat(timespec="milliseconds" if full else "seconds")
