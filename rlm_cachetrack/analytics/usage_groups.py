"""Usage by any combination of time, model, provider, query, recursion depth, call site, tags and metadata."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Unpack
from zoneinfo import ZoneInfo

from rlm_cachetrack.errors import ConfigError
from rlm_cachetrack.formatting import Table

from .figures import UsageFigures
from .filters import CallFilters, needs_calls, query_parameters
from .run_report import is_cache_use_reported
from .summaries import whole_hours

if TYPE_CHECKING:
    from rlm_cachetrack.store import PostgresStore

_COLUMNS = {
    "model": "model",
    "provider": "provider",
    "query": "query_id",
    "depth": "current_depth",
    "call_site": "call_site",
}
_UNITS = ("hour", "day", "week", "month")
USAGE_GROUPINGS = (*_COLUMNS, "tag:NAME", "metadata.KEY", *_UNITS)
"""The groupings of usage."""

_HOURLY = {"model", "provider", *_UNITS}  # the groupings that the hourly sums contain
_MOST_KEYS = 8
_MOST_NAMED = 3  # tags, and metadata keys


class UsageGroup(UsageFigures):
    """The figures of one group; the row also has one key per grouping, with its value or None.

    Costs: USD over the priced calls; ``cache_hit_rate`` 0-1, weighted by tokens over the calls that reported;
    ``*_ms``: milliseconds. The cached, uncached and written tokens are None if no call reported its cache use.
    """

    total_cached_tokens: int | None
    total_uncached_tokens: int | None
    total_cache_write_tokens: int | None
    cache_hit_rate: float | None


def usage_groups(
    store: PostgresStore,
    group_by: Sequence[str],
    *,
    time_zone: str = "UTC",
    **filters: Unpack[CallFilters],
) -> Table[dict[str, Any]]:
    """Return usage by group, over the calls that the filters select. Blocks for one query.

    Times, models and providers come from the hourly sums; any other grouping or filter reads the calls.

    Args:
        store: The store to read.
        group_by: Some of :data:`USAGE_GROUPINGS`, at most one unit of time. Days begin at midnight in ``time_zone``.
        time_zone: The name of a time zone, such as ``Europe/Berlin``.
        filters: See :class:`.CallFilters`.

    Returns:
        Rows with a key per grouping, then the keys of :class:`UsageGroup`.

    Raises:
        ConfigError: A grouping or the time zone is unknown.
    """
    units, tag_names, metadata_keys = _parse(group_by)
    zone = _zone(time_zone)
    rows = group_rows(store, group_by, time_zone, **filters)
    sources = _sources(group_by, tag_names, metadata_keys).items()
    found = [{name: row[column] for name, column in sources} for row in map(without_unreported, rows)]
    for unit in units:
        for group in found:
            group[unit] = group[unit].astimezone(zone)
    return Table(found, columns=[name for name, _ in sources])


def group_rows(
    store: PostgresStore, group_by: Sequence[str], time_zone: str = "UTC", **filters: Unpack[CallFilters]
) -> list[dict[str, Any]]:
    """Return the rows of ``usage_groups_calls`` by the arguments of :func:`usage_groups`. Blocks for one query."""
    units, tag_names, metadata_keys = _parse(group_by)
    zone, chosen = _zone(time_zone), query_parameters(filters)
    since, until = chosen["since"], chosen["until"]
    whole = not units or _has_whole_hours(zone, since)
    hourly = not needs_calls(filters) and set(group_by) <= _HOURLY and whole
    return store.query(
        "usage_groups_hours" if hourly else "usage_groups_calls",
        unit=units[0] if units else None,
        time_zone=time_zone,
        **_numbered("tag", tag_names),
        **_numbered("key", metadata_keys),
        **{f"by_{name}": name in group_by for name in _COLUMNS},
        **{**chosen, **whole_hours(since, until)},
    )


def without_unreported(row: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of a group with None in place of tokens that no call reported."""
    if not row["total_interactions"] or is_cache_use_reported(row):
        return row
    return {**row, **dict.fromkeys(("total_cached_tokens", "total_uncached_tokens", "total_cache_write_tokens"))}


def _parse(group_by: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """Return the units of time, the names of tags and the metadata keys among the groupings."""
    if not 0 < len(group_by) <= _MOST_KEYS:
        raise ConfigError(f"group_by has {len(group_by)} entries: expected 1 to {_MOST_KEYS}")
    if len(set(group_by)) < len(group_by):
        raise ConfigError(f"group_by names a grouping twice: {', '.join(group_by)}")
    units = [name for name in group_by if name in _UNITS]
    tag_names = [name.removeprefix("tag:") for name in group_by if name.startswith("tag:")]
    keys = [name.removeprefix("metadata.") for name in group_by if name.startswith("metadata.")]
    for name in group_by:
        if name not in _UNITS and name not in _COLUMNS and not (name.startswith(("tag:", "metadata.")) and name[4:]):
            raise ConfigError(f"group_by={name!r}: expected {', '.join(USAGE_GROUPINGS[:-1])} or {USAGE_GROUPINGS[-1]}")
    if "" in tag_names or "" in keys:
        raise ConfigError("group_by: expected a name after tag: and a key after metadata.")
    if max(len(tag_names), len(keys)) > _MOST_NAMED:
        raise ConfigError(f"group_by: expected at most {_MOST_NAMED} tags and {_MOST_NAMED} metadata keys")
    if len(units) > 1:
        raise ConfigError(f"group_by has {' and '.join(units)}: expected one unit of time")
    return units, tag_names, keys


def _numbered(prefix: str, names: Sequence[str]) -> dict[str, str | None]:
    """Return the query parameters of tags or metadata keys."""
    padded = (*names, *(None,) * _MOST_NAMED)[:_MOST_NAMED]
    return {f"{prefix}_{number}": name for number, name in enumerate(padded, 1)}


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ConfigError(f"time zone {name!r} is unknown; expected a name such as UTC or Europe/Berlin") from None


def _has_whole_hours(zone: ZoneInfo, since: datetime | None) -> bool:
    """Return True if the zone differs from UTC by whole hours, so that its days consist of whole hours of UTC."""
    now = datetime.now(UTC)
    first = since or now - timedelta(days=3650)
    step = max((now - first) / 40, timedelta(days=1))
    offsets = [(first + number * step).astimezone(zone).utcoffset() or timedelta(0) for number in range(41)]
    return not any(offset % timedelta(hours=1) for offset in offsets)


def _sources(group_by: Sequence[str], tag_names: list[str], metadata_keys: list[str]) -> dict[str, str]:
    """Return the column of the query by key of the result."""
    named = {f"tag:{name}": f"tag_{number}" for number, name in enumerate(tag_names, 1)}
    named |= {f"metadata.{key}": f"key_{number}" for number, key in enumerate(metadata_keys, 1)}
    named |= {**_COLUMNS, **dict.fromkeys(_UNITS, "bucket")}
    return {name: named[name] for name in group_by} | {name: name for name in UsageGroup.__annotations__}
