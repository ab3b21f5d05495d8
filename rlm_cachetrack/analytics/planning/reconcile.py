"""Compare the costs that a provider billed with the recorded ones, by day, model and tier."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any, TypedDict

from rlm_cachetrack.errors import ConfigError
from rlm_cachetrack.pricing import snapshot_names
from rlm_cachetrack.usage import TokenUsage

from .openai_exports import APIS_OF_KIND, Line, read_export
from .other_exports import read_other_export

if TYPE_CHECKING:
    from rlm_cachetrack.pricing import PriceBook
    from rlm_cachetrack.store import PostgresStore

_NOISE = 1e-9
_SAME_AS_DEFAULT = (None, "", "default", "auto", "standard")
_Key = tuple[date, str | None, str | None]


class ReconciliationRow(TypedDict):
    """One day (UTC), model and tier of an export; model and tier are None if the export does not separate them.

    ``exported_cost`` is the billed cost; for an export of usage, the cost of its tokens by the price list (None if
    unpriced). ``coverage_percentage`` (0-100) is the recorded share, by cost or, for usage, by tokens.
    ``unexplained_cost`` is the exported minus the recorded cost in USD, positive if the provider billed more than was
    recorded.
    """

    day: date
    model: str | None
    service_tier: str | None
    exported_cost: float | None
    recorded_cost: float
    exported_requests: int
    recorded_requests: int
    exported_tokens: int
    recorded_tokens: int
    exported_cached_tokens: int
    recorded_cached_tokens: int
    unpriced_interactions: int
    coverage_percentage: float | None
    unexplained_cost: float | None


class Reconciliation(TypedDict):
    """All rows with their sums. ``kind`` is ``costs`` or ``usage``."""

    kind: str
    day_from: date
    day_to: date
    exported_cost: float | None
    recorded_cost: float
    coverage_percentage: float | None
    unexplained_cost: float | None
    unpriced_interactions: int
    rows: list[ReconciliationRow]
    notes: list[str]


@dataclass(slots=True)
class _Sum:
    cost: float = 0.0
    priced: bool = True
    requests: int = 0
    prompt: int = 0
    cached: int = 0
    completion: int = 0
    unpriced: int = 0

    @property
    def tokens(self) -> int:
        return self.prompt + self.completion


def reconcile(
    store: PostgresStore,
    book: Callable[[], PriceBook],
    path: str | os.PathLike[str],
    provider: str | None = None,
) -> Reconciliation:
    """Compare an export of a provider with the calls recorded on its days. Blocks for the file and one query.

    Args:
        store: The store of the calls.
        book: Returns the price book for an export of usage; an export of costs needs no prices.
        path: Costs or usage exported from OpenAI (CSV, or JSON of the Usage API), the activity of OpenRouter (CSV), or
            the cost export of Azure (CSV).
        provider: The provider of the export; None: the one that the format of the file implies. Calls of an
            unknown provider are compared too.

    Raises:
        ConfigError: The file is not such an export, or is empty.
    """
    export = read_other_export(path) or read_export(path)
    lines, provider = export.lines, provider or export.provider
    if not lines:
        raise ConfigError(f"{os.fspath(path)}: contains no usage and no costs; export days on which the API was used")
    kind = "usage" if lines[0].cost is None else "costs"
    by_model = any(line.model is not None for line in lines)
    tiers = _named_tiers(lines, kind)
    begin, end = min(line.day for line in lines), max(line.day for line in lines)
    exported = _exported(lines, book, provider, tiers)
    apis = sorted({api for line in lines for api in APIS_OF_KIND[line.kind]}) if kind == "usage" else None
    rows_of_calls = _calls(store, begin, end, provider, apis)
    names = _exported_names(lines, rows_of_calls)
    recorded = _recorded(rows_of_calls, by_model, names, tiers if kind == "costs" else None, bool(tiers))
    rows = [_row(key, exported.get(key), recorded.get(key, _Sum()), kind) for key in sorted(
        exported.keys() | recorded.keys(), key=lambda key: (key[0], key[1] or "", key[2] or "")
    )]  # fmt: skip
    return _whole(kind, begin, end, rows, by_model, bool(tiers), export.complete, names)


def _named_tiers(lines: Iterable[Line], kind: str) -> frozenset[str]:
    """Return the tiers that the export separates; empty if it does not separate tiers."""
    named = frozenset(line.service_tier for line in lines if line.service_tier is not None)
    return frozenset() if kind == "costs" and named <= {"default"} else named


def _tier(name: str | None, by_tier: bool, named: frozenset[str] | None = None) -> str | None:
    """Return the tier to compare by; a tier that is not ``named`` is billed as default."""
    if not by_tier:
        return None
    return "default" if name in _SAME_AS_DEFAULT or (named is not None and name not in named) else name


def _exported(
    lines: Iterable[Line], book: Callable[[], PriceBook], provider: str, tiers: frozenset[str]
) -> dict[_Key, _Sum]:
    found: dict[_Key, _Sum] = {}
    for line in lines:
        total = found.setdefault((line.day, line.model, _tier(line.service_tier, bool(tiers))), _Sum())
        total.requests += line.requests
        total.prompt += line.prompt_tokens
        total.cached += line.cached_tokens
        total.completion += line.completion_tokens
        if line.cost is not None:
            total.cost += line.cost
            continue
        cost = None if line.model is None else _cost_of_usage(line, book(), provider)
        if cost is None:
            total.priced = False
        else:
            total.cost += cost
    return found


def _cost_of_usage(line: Line, book: PriceBook, provider: str) -> float | None:
    """Return the cost of a line of usage with all of its components, at base prices; None if one has no price."""
    usage = TokenUsage(
        prompt_tokens=line.prompt_tokens,
        completion_tokens=line.completion_tokens,
        cached_tokens=line.cached_tokens,
        cache_write_tokens=line.cache_write_tokens,
        details=line.details or None,
    )
    noon = datetime.combine(line.day, time(12), UTC)
    return book.cost_of_many(usage, model=line.model or "", provider=provider, service_tier=line.service_tier, at=noon)


def _calls(store: PostgresStore, begin: date, end: date, provider: str, apis: list[str] | None) -> list[dict[str, Any]]:
    return store.query(
        "reconcile_calls",
        since=datetime.combine(begin, time(0), UTC),
        until=datetime.combine(end, time(0), UTC) + timedelta(days=1),
        providers=[provider],
        apis=apis,
    )


def _exported_names(lines: Iterable[Line], calls: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Map recorded models to their exported names: ``gpt-5-2025-08-07`` to ``gpt-5``, or the reverse.

    A model is mapped only if exactly one exported name fits: a base name could mean either of two snapshots.
    """
    exported = {line.model for line in lines if line.model is not None}
    names: dict[str, str] = {}
    for model in {row["model"] for row in calls} - exported:
        base = model.split(":")[1] if model.startswith("ft:") else ""
        fitting = {
            name
            for name in exported
            if model in snapshot_names(name) or name in snapshot_names(model) or (base and name == f"ft-{base}")
        }
        if len(fitting) == 1:
            (names[model],) = fitting
    return names


def _recorded(
    rows: Iterable[Mapping[str, Any]],
    by_model: bool,
    names: Mapping[str, str],
    named: frozenset[str] | None,
    by_tier: bool,
) -> dict[_Key, _Sum]:
    found: dict[_Key, _Sum] = {}
    for row in rows:
        model = names.get(row["model"], row["model"]) if by_model else None
        key = (row["day"].date(), model, _tier(row["service_tier"], by_tier, named))
        total = found.setdefault(key, _Sum())
        total.cost += row["total_cost"]
        total.requests += row["interactions"]
        total.prompt += row["prompt_tokens"]
        total.cached += row["cached_tokens"]
        total.completion += row["completion_tokens"]
        total.unpriced += row["unpriced_interactions"]
    return found


def _row(key: _Key, exported: _Sum | None, recorded: _Sum, kind: str) -> ReconciliationRow:
    billed = exported or _Sum()
    known = billed.cost if billed.priced else None
    if kind == "costs":
        whole, part = billed.cost, recorded.cost
    elif billed.tokens:
        whole, part = billed.tokens, recorded.tokens
    else:  # images, characters, seconds
        whole, part = billed.requests, recorded.requests
    return {
        "day": key[0],
        "model": key[1],
        "service_tier": key[2],
        "exported_cost": known,
        "recorded_cost": recorded.cost,
        "exported_requests": billed.requests,
        "recorded_requests": recorded.requests,
        "exported_tokens": billed.tokens,
        "recorded_tokens": recorded.tokens,
        "exported_cached_tokens": billed.cached,
        "recorded_cached_tokens": recorded.cached,
        "unpriced_interactions": recorded.unpriced,
        "coverage_percentage": 100 * _share(min(part, whole) / whole) if whole > 0 else None,
        "unexplained_cost": None if known is None else _difference(known, recorded.cost),
    }


def _share(share: float) -> float:
    """Return a share; exactly 1.0 if it differs from 1 only by rounding errors."""
    return 1.0 if share > 1 - _NOISE else share


def _difference(exported: float, recorded: float) -> float:
    difference = exported - recorded
    return 0.0 if abs(difference) <= _NOISE * max(abs(exported), abs(recorded)) else difference


def _whole(
    kind: str,
    begin: date,
    end: date,
    rows: list[ReconciliationRow],
    by_model: bool,
    by_tier: bool,
    complete: bool,
    names: Mapping[str, str],
) -> Reconciliation:
    weights = [
        (row["exported_cost"] or 0.0) if kind == "costs" else row["exported_tokens"] or row["exported_requests"]
        for row in rows
    ]
    shares = [weight * (row["coverage_percentage"] or 0.0) for weight, row in zip(weights, rows, strict=True)]
    priced = [row for row in rows if row["exported_cost"] is not None]
    notes = []
    if not complete:
        notes.append("incomplete export: fetch the next page (the last one has has_more: true)")
    if not by_model:
        notes.append("the export is not grouped by model: whole days are compared")
    notes += [f"recorded {model} is compared with {name}" for model, name in sorted(names.items())]
    if not by_tier:
        notes.append("the export is not grouped by service tier: tiers are compared together")
    elif kind == "costs":
        notes.append("tiers that the export does not name are compared with default")
    if kind == "usage":
        notes.append("an export of usage has no costs: its tokens are priced at the base prices of the price list")
        if len(priced) < len(rows):
            notes.append(f"{len(rows) - len(priced)} rows of unpriced models are left out of the costs")
    if unpriced := sum(row["unpriced_interactions"] for row in rows):
        notes.append(f"unpriced recorded calls: {unpriced:,}")
    return {
        "kind": kind,
        "day_from": begin,
        "day_to": end,
        "exported_cost": sum(row["exported_cost"] or 0.0 for row in priced) if priced else None,
        "recorded_cost": sum(row["recorded_cost"] for row in rows),
        "coverage_percentage": 100 * _share(sum(shares) / sum(weights) / 100) if sum(weights) > 0 else None,
        "unexplained_cost": sum(row["unexplained_cost"] or 0.0 for row in priced) if priced else None,
        "unpriced_interactions": sum(row["unpriced_interactions"] for row in rows),
        "rows": rows,
        "notes": notes,
    }
