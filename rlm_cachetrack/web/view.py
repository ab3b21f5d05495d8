"""Range, filters and time zone of a page, as given in its address, and links that keep them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from fastapi import Depends, HTTPException, Query

from rlm_cachetrack.analytics import ContentFilters, time_ranges

Since = Annotated[str | None, Query(description="From this time on, rounded to whole hours or minutes.")]
Until = Annotated[str | None, Query(description="Before this moment.")]
Range = Annotated[
    str, Query(alias="range", description=f"One of {', '.join(time_ranges.RANGES)}; since and until replace it.")
]
Model = Annotated[str | None, Query(description="Only this model.")]
Provider = Annotated[str | None, Query(description="Only this provider.")]
QueryFilter = Annotated[str | None, Query(alias="query", description="Only the query with this whole id.")]
Tag = Annotated[str | None, Query(description="Only calls with this tag: NAME=VALUE.")]
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


def parse_tag(text: str) -> dict[str, str]:
    """Parse a tag in a query string.

    Raises:
        HTTPException: The text is not ``NAME=VALUE`` (status 400).
    """
    name, separator, value = text.partition("=")
    if not name or not separator:
        raise HTTPException(400, "tag: expected NAME=VALUE, such as team=search")
    return {name: value}


@dataclass(frozen=True, slots=True)
class View:
    """The range, filters and time zone of a page; empty where its address does not set them."""

    range: str = ""
    since: str = ""
    until: str = ""
    model: str = ""
    provider: str = ""
    query: str = ""
    tag: str = ""
    tz: str = "UTC"

    @property
    def zone(self) -> ZoneInfo:
        """The time zone."""
        return ZoneInfo(self.tz)

    @property
    def filters(self) -> ContentFilters:
        """The filters on calls. NUL, which PostgreSQL rejects and no stored text contains, is replaced."""
        model, provider, query, tag = (
            text.replace("\0", "\ufffd") or None for text in (self.model, self.provider, self.query, self.tag)
        )
        return {"model": model, "provider": provider, "query_id": query, "tags": parse_tag(tag) if tag else None}

    @property
    def is_filtered(self) -> bool:
        """Return True if the page covers only some models, providers, queries or tags."""
        return bool(self.model or self.provider or self.query or self.tag)

    def span(self, default: str = "7d") -> time_ranges.Span:
        """Return the range of time.

        Args:
            default: The name of the range if the address has none.
        """
        since = parse_moment(self.since, "since", self.zone) if self.since else None
        until = parse_moment(self.until, "until", self.zone) if self.until else None
        return time_ranges.span(self.range or default, since, until, zone=self.tz)

    def link(self, path: str, **more: Any) -> str:
        """Return an address that keeps range, filters and time zone.

        Args:
            path: The page.
            more: Further parameters; they replace those kept.
        """
        kept = {**asdict(self), "tz": "" if self.tz == "UTC" else self.tz, **more}
        given = urlencode({name: value for name, value in kept.items() if value not in (None, "")})
        return f"{path}?{given}" if given else path


def _view(
    name: Range = "",
    since: Since = None,
    until: Until = None,
    model: Model = None,
    provider: Provider = None,
    query: QueryFilter = None,
    tag: Tag = None,
    tz: Zone = "UTC",
) -> View:
    try:
        ZoneInfo(tz)
    except (KeyError, ValueError, OSError):
        raise HTTPException(400, f"tz: {tz[:60]!r} is not a time zone; expected a name such as Europe/Berlin") from None
    return View(name, since or "", until or "", model or "", provider or "", query or "", tag or "", tz)


PageView = Annotated[View, Depends(_view)]
