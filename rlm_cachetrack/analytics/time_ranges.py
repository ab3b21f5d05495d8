"""Ranges of time, with bounds on whole minutes, hours or days (UTC), and the width of their buckets. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from rlm_cachetrack.errors import ConfigError
from rlm_cachetrack.records import shifted

Unit = Literal["minute", "hour", "day", "week", "month"]

RANGES: Mapping[str, tuple[timedelta | None, Unit]] = {
    "1h": (timedelta(hours=1), "minute"),
    "24h": (timedelta(hours=24), "hour"),
    "7d": (timedelta(days=7), "hour"),
    "30d": (timedelta(days=30), "day"),
    "90d": (timedelta(days=90), "day"),
    "all": (None, "day"),
}
"""Ranges by name: how far back they begin, and the width of a bucket."""

_BY_HOUR = timedelta(days=8)  # a longer range is shown by day


@dataclass(frozen=True, slots=True)
class Span:
    """A range of time: ``since <= time < until``, None for no bound, in buckets of ``unit`` of the time zone."""

    since: datetime | None
    until: datetime | None
    unit: Unit
    zone: str = "UTC"

    def before(self, now: datetime | None = None) -> Span | None:
        """Return the range of the same length that ends where this one begins; None if it has no start."""
        if self.since is None:
            return None
        begin = shifted(self.since, self.since - (self.until or now or datetime.now(UTC)))
        return Span(floor(begin, "minute" if self.unit == "minute" else "hour"), self.since, self.unit, self.zone)


def span(
    name: str = "7d",
    since: datetime | None = None,
    until: datetime | None = None,
    *,
    now: datetime | None = None,
    zone: str = "UTC",
) -> Span:
    """Make a range from a name in :data:`RANGES` or from two times; its bounds are rounded to whole units.

    Args:
        name: The name; not used if ``since`` or ``until`` is given.
        since: The start, included.
        until: The end, not included.
        now: The current time; None: now.
        zone: The time zone in which days begin.

    Raises:
        ConfigError: The name is unknown, or ``since`` is not before ``until``.
    """
    if since is None and until is None:
        if name not in RANGES:
            raise ConfigError(f"range={name!r}: expected one of {', '.join(RANGES)}")
        back, unit = RANGES[name]
        begin = None if back is None else floor((now or datetime.now(UTC)) - back, unit, zone)
        return Span(begin, None, unit, zone)
    first = None if since is None else since.astimezone(UTC)
    last = None if until is None else until.astimezone(UTC)
    if first is not None and last is not None and first >= last:
        raise ConfigError(f"since, {first.isoformat()}, is not before until, {last.isoformat()}")
    length = None if first is None else (last or now or datetime.now(UTC)) - first
    unit = "day" if length is None or length > _BY_HOUR else "hour" if length > timedelta(hours=3) else "minute"
    whole: Unit = "hour" if unit == "day" else unit
    ends = None if last is None else floor(last, whole)
    if last is not None and ends != last:
        ends = shifted(floor(last, whole), timedelta(**{f"{whole}s": 1}))
    return Span(None if first is None else floor(first, whole), ends, unit, zone)


def floor(moment: datetime, unit: Unit, zone: str = "UTC") -> datetime:
    """Round a time down to the minute, the hour or (for a longer unit) the day. Pure."""
    changed = {"second": 0, "microsecond": 0}
    if unit != "minute":
        changed["minute"] = 0
    if unit not in ("minute", "hour"):
        changed["hour"] = 0
    return moment.astimezone(ZoneInfo(zone)).replace(**changed).astimezone(UTC)  # type: ignore[arg-type]
