"""What-if costs of calls that have more components than the four prices: tools, audio, long retention, fees.

SQL prices all other calls. These are computed here, by the same code that priced them when they were recorded. A
component that the other prices lack keeps the price that it was stored with, so the call can still be compared.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rlm_cachetrack.pricing import CACHE_WRITES, MODEL_TOOLS, TOKEN_ITEMS, UNITS, Rates, cost_of, factor_of

from .repriced_details import listed_rates, usage_of

if TYPE_CHECKING:
    from rlm_cachetrack.pricing import PriceBook
    from rlm_cachetrack.store import PostgresStore

    from .what_if import WhatIfModel

_PAGE = 50_000
# Fees and surcharges of the recorded model; another model without a price for them does not charge them.
_OF_THE_MODEL = frozenset({"request", "reasoning", "citation", *UNITS})


@dataclass(slots=True)
class DetailedCalls:
    """The calls of a what-if that were priced here.

    Attributes:
        count: Their number.
        kept: The components that kept their stored price.
        shortened: Whether cache writes with a longer retention have the price of usual writes.
    """

    count: int = 0
    kept: set[str] = field(default_factory=set)
    shortened: bool = False

    def assumptions(self) -> Iterator[str]:
        """Yield the assumptions about these calls as sentences."""
        if self.count:
            calls = "1 call has" if self.count == 1 else f"{self.count:,} calls have"
            yield f"{calls} more components than text (tools, audio, cache retention, fees), which are priced, too"
        if self.kept:
            names = ", ".join(name.replace("_", " ") for name in sorted(self.kept))
            yield f"components without a new price keep the price they were stored with: {names}"
        if self.shortened:
            yield "cache writes with a longer retention have the price of usual writes where no other is known"


def add_detailed(
    by_model: dict[str, WhatIfModel],
    store: PostgresStore,
    book: PriceBook,
    which: Mapping[str, Any],
    rates: list[dict[str, Any]],
    moment: datetime,
    hit_rate: float | None,
) -> DetailedCalls:
    """Add the detailed calls of a what-if to the results of their models. Blocks for a query per 50,000 of them.

    Args:
        by_model: The results, which are changed.
        store: The store of the calls.
        book: The other prices.
        which: The calls, from :func:`.scope`.
        rates: The other prices as rows.
        moment: The time whose prices apply to generated images.
        hit_rate: The share of input read from the cache; None: as recorded.
    """
    done = DetailedCalls()
    for row in _rows(store, which, rates):
        usage = usage_of(row)
        if hit_rate is not None:
            usage = usage._replace(cached_tokens=round(row["prompt_tokens"] * hit_rate))
        written = min(usage.cache_write_tokens or 0, row["prompt_tokens"] - (usage.cached_tokens or 0))
        usage = usage._replace(cache_write_tokens=max(written, 0))
        new = _with_stored_prices(listed_rates(row), row, done)
        facts = book.facts(row["tool_usage"], row["request_options"], row["provider"], moment)
        cost = cost_of(usage, new, facts, row["model"]).total_cost
        done.count += 1
        _add(by_model, row, cost, usage.cached_tokens or 0)
    return done


def _rows(store: PostgresStore, which: Mapping[str, Any], rates: list[dict[str, Any]]) -> Iterable[Mapping[str, Any]]:
    listed = json.dumps(rates)
    after: dict[str, Any] = {"after_time": None, "after_id": None}
    while page := store.query("what_if_detailed", rates=listed, size=_PAGE, **after, **which):
        yield from page
        after = {"after_time": page[-1]["time"], "after_id": page[-1]["interaction_id"]}


def _with_stored_prices(rates: Rates, row: Mapping[str, Any], done: DetailedCalls) -> Rates:
    """Return the new prices, completed by stored prices of components that they lack."""
    factor = factor_of(rates, row["request_options"] or {}) or 1.0  # the stored price of tokens includes its factor
    extras: dict[str, float] = {}
    for charge in row["charges"] or ():
        item = charge["item"]
        if item in rates.extras or item in _OF_THE_MODEL or item.startswith(MODEL_TOOLS):
            continue
        if item in CACHE_WRITES:
            extras[item] = rates.cache_write
            done.shortened = True
        else:
            extras[item] = charge["price"] * 1_000 / factor if item in TOKEN_ITEMS else charge["price"]
            done.kept.add(item)
    return replace(rates, extras={**extras, **rates.extras}) if extras else rates


def _add(by_model: dict[str, WhatIfModel], row: Mapping[str, Any], cost: float | None, cached: int) -> None:
    found = by_model.setdefault(
        row["model"],
        {
            "model": row["model"],
            "total_interactions": 0,
            "compared_interactions": 0,
            "actual_cost": None,
            "what_if_cost": None,
            "prompt_tokens": 0.0,
            "cached_tokens": 0.0,
            "what_if_cached_tokens": 0.0,
            "completion_tokens": 0.0,
        },
    )
    found["total_interactions"] += 1
    if cost is None or row["total_cost"] is None:
        return
    found["compared_interactions"] += 1
    found["actual_cost"] = (found["actual_cost"] or 0.0) + row["total_cost"]
    found["what_if_cost"] = (found["what_if_cost"] or 0.0) + cost
    found["prompt_tokens"] += row["prompt_tokens"]
    found["cached_tokens"] += row["cached_tokens"] or 0
    found["what_if_cached_tokens"] += cached
    found["completion_tokens"] += row["completion_tokens"] or 0
