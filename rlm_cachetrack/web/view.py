"""What a page shows: range, model, provider and time zone, as given in its address, and links that keep them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from fastapi import Depends, HTTPException, Query

from rlm_cachetrack.analytics import usage_views

if TYPE_CHECKING:
    from .cached_queries import CachedQueries

Since = Annotated[str | None, Query(description="From this time on, rounded to whole hours or minutes.")]
Until = Annotated[str | None, Query(description="Before this moment.")]
Range = Annotated[
    str, Query(alias="range", description=f"One of {', '.join(usage_views.RANGES)}; since and until replace it.")
]
Model = Annotated[str | None, Query(description="Only this model.")]
Provider = Annotated[str | None, Query(description="Only this provider.")]
Zone = Annotated[str, Query(description="Time zone in which days begin and times are shown, such as Europe/Berlin.")]


def parse_moment(text: str, name: str, zone: ZoneInfo | None = None) -> datetime:
    """Parse a time in a query string; without an offset it is in the given zone, or in UTC.

    Raises:
        HTTPException: The text is not a date and time (status 400).
    """
    try:
        # An unescaped plus sign arrives as a space.
        value = datetime.fromisoformat(text.strip().replace(" ", "+") if "T" in text else text.strip())
        return (value.replace(tzinfo=zone or UTC) if value.tzinfo is None else value).astimezone(UTC)
    except (ValueError, OverflowError):
        raise HTTPException(400, f"{name}: expected a date and time such as 2026-01-31T12:00:00Z") from None


@dataclass(frozen=True, slots=True)
class View:
    """The filters of a page; empty where its address does not set them."""

    range: str = ""
    since: str = ""
    until: str = ""
    model: str = ""
    provider: str = ""
    tz: str = "UTC"

    @property
    def zone(self) -> ZoneInfo:
        """The time zone."""
        return ZoneInfo(self.tz)

    def span(self, default: str = "7d") -> usage_views.Span:
        """Return the range of time.

        Args:
            default: The name of the range if the address has none.
        """
        since = parse_moment(self.since, "since", self.zone) if self.since else None
        until = parse_moment(self.until, "until", self.zone) if self.until else None
        return usage_views.span(self.range or default, since, until, zone=self.tz)

    def usage(self, queries: CachedQueries, default: str = "7d") -> usage_views.Usage:
        """Query the usage that the filters select. Blocks."""
        return queries.usage(self.span(default), self.model or None, self.provider or None)

    def link(self, path: str, *, with_filters: bool = False, **more: Any) -> str:
        """Return an address that keeps the range and the time zone.

        Args:
            path: The page.
            with_filters: Whether it keeps the model and the provider, too.
            more: Further parameters; they replace those kept.
        """
        kept: dict[str, Any] = {"range": self.range, "since": self.since, "until": self.until}
        if with_filters:
            kept.update(model=self.model, provider=self.provider)
        kept["tz"] = "" if self.tz == "UTC" else self.tz
        kept.update(more)
        given = urlencode({name: value for name, value in kept.items() if value not in (None, "")})
        return f"{path}?{given}" if given else path


def _view(
    name: Range = "",
    since: Since = None,
    until: Until = None,
    model: Model = None,
    provider: Provider = None,
    tz: Zone = "UTC",
) -> View:
    try:
        ZoneInfo(tz)
    except (KeyError, ValueError, OSError):
        raise HTTPException(400, f"tz: {tz[:60]!r} is no time zone; expected a name such as Europe/Berlin") from None
    return View(name, since or "", until or "", model or "", provider or "", tz)


PageView = Annotated[View, Depends(_view)]
