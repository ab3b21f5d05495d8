"""The filters of all reading functions: time, model, provider, query and tags."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypedDict

from rlm_cachetrack.errors import ConfigError


class ContentFilters(TypedDict, total=False):
    """Select calls that match all of ``model``, ``provider``, ``query_id`` and ``tags``. No key, or None, matches any.

    Functions that return runs select the runs of ``query_id`` that have such a call. A tag of a run counts as a tag
    of each of its calls.
    """

    model: str | None
    provider: str | None
    query_id: str | None
    tags: Mapping[str, str] | None


class CallFilters(ContentFilters, total=False):
    """The filters of :class:`ContentFilters`, and calls with ``since <= time < until``, or runs that began then."""

    since: datetime | None
    until: datetime | None


def check_range(filters: CallFilters) -> None:
    """Check that the filters can select calls of any time.

    Raises:
        ConfigError: ``since`` is not before ``until``.
    """
    since, until = filters.get("since"), filters.get("until")
    if since is not None and until is not None and since >= until:
        raise ConfigError(f"since, {since.isoformat()}, is not before until, {until.isoformat()}")


def query_parameters(filters: CallFilters) -> dict[str, Any]:
    """Return the parameters of ``fragments/any_calls.sql`` and of ``fragments/run_page_filters.sql``."""
    tags = filters.get("tags")
    return {
        "since": filters.get("since"),
        "until": filters.get("until"),
        "model": filters.get("model"),
        "provider": filters.get("provider"),
        "query_id": filters.get("query_id"),
        "tags": json.dumps(dict(tags)) if tags else None,
    }


def needs_calls(filters: CallFilters) -> bool:
    """Return True if the filters use a field that the hourly sums do not contain."""
    return filters.get("query_id") is not None or bool(filters.get("tags"))
