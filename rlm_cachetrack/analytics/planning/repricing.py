"""Re-price stored calls: show the effect of other prices, apply them, undo them.

First the prices of each group of calls (model, provider, tier) are written as rows by time and prompt size, which SQL
can join with the calls. Then they are applied in batches. Each batch is a transaction that also stores the previous
values of the calls and the progress, so a re-pricing can be resumed after an interruption, and undone. The SQL does the
arithmetic of :func:`.amounts` in the same order, so both give the same cost to the last bit.

Calls whose prices were given by hand keep them unless asked otherwise. A cost that a provider returned is kept; the
original cost is recomputed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, time, timedelta
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypedDict, Unpack, cast

from rlm_cachetrack.analytics.filters import CallFilters, check_range, query_parameters
from rlm_cachetrack.errors import ConfigError, NotStoredError, PricingError
from rlm_cachetrack.pricing import no_price_reason

from .repriced_details import IMAGES, add_details, image_rates, new_values

if TYPE_CHECKING:
    from rlm_cachetrack.pricing import Period, PriceBook, Schedule
    from rlm_cachetrack.store import PostgresStore, Session

Progress = Callable[[int, int], None]
"""Called with the number of calls done and the number of all calls."""

BATCH = 50_000
_RUNS = 5_000
_LARGEST = 2**31 - 1


class ModelDifference(TypedDict):
    """The effect of a re-pricing on one model. Costs: USD over the priced calls, None if there are none."""

    model: str
    total_interactions: int
    changed_interactions: int
    unpriced_before: int
    unpriced_after: int
    cost_before: float | None
    cost_after: float | None


class PriceChange(TypedDict):
    """A logged re-pricing. Costs: USD over the changed calls that had a price."""

    change_id: int
    started_at: datetime
    finished_at: datetime | None
    status: str
    pricing: str
    since: datetime | None
    until: datetime | None
    model: str | None
    query_id: str | None
    unpriced: bool
    include_given: bool
    total_interactions: int
    looked_at: int
    changed_interactions: int
    batches: int
    cost_before: float | None
    cost_after: float | None


class Repricing(TypedDict):
    """The result of re-pricing; ``kept_interactions`` counts calls that keep the prices given by hand."""

    difference: list[ModelDifference]
    kept_interactions: int
    change: PriceChange | None


_SELECTION = ("since", "until", "model", "query_id", "unpriced", "include_given")


def selection(*, unpriced: bool = False, include_given: bool = False, **filters: Unpack[CallFilters]) -> dict[str, Any]:
    """Return the query parameters that select the calls of a re-pricing.

    Args:
        unpriced: Only calls without a cost.
        include_given: Also calls whose prices were given by hand.
        filters: See :class:`.CallFilters`; a re-pricing selects by time, model and query only.

    Raises:
        ConfigError: ``since`` is not before ``until``.
    """
    check_range(filters)
    return {**query_parameters(filters), "unpriced": unpriced, "include_given": include_given}


def difference(store: PostgresStore, book: PriceBook, which: Mapping[str, Any]) -> list[ModelDifference]:
    """Return the effect of a re-pricing by model, the largest difference first. Changes nothing. Blocks.

    Args:
        store: The store of the calls.
        book: The new prices.
        which: The calls, from :func:`selection`.
    """
    rates, _ = _rates(store.query("reprice_groups", **which), book)
    listed = json.dumps(rates)
    rows = cast("list[ModelDifference]", store.query("reprice_difference", rates=listed, **which))
    by_model = {row["model"]: row for row in rows}
    after: dict[str, Any] = {"after_time": None, "after_id": None}
    while page := store.query("reprice_detailed", rates=listed, size=BATCH, **after, **which):
        add_details(by_model, page, image_rates(rates))
        after = {"after_time": page[-1]["time"], "after_id": page[-1]["interaction_id"]}
    return sorted(
        by_model.values(), key=lambda row: (-abs((row["cost_after"] or 0) - (row["cost_before"] or 0)), row["model"])
    )


def count_kept(store: PostgresStore, which: Mapping[str, Any]) -> int:
    """Return how many calls of a :func:`selection` keep the prices given by hand. Blocks for one query."""
    (row,) = store.query("reprice_kept", **which)
    return int(row["interactions"])


def apply(
    store: PostgresStore,
    book: PriceBook,
    which: Mapping[str, Any],
    *,
    progress: Progress | None = None,
    batch: int = BATCH,
) -> PriceChange:
    """Re-price calls. Blocks for about 20 s per million changed calls.

    If the same re-pricing was interrupted, it is resumed with the prices it was started with.

    Args:
        store: The store of the calls.
        book: The new prices.
        which: The calls, from :func:`selection`.
        progress: Called after every batch.
        batch: The number of calls per transaction.

    Raises:
        ConfigError: Another re-pricing is not finished.
    """
    with store.session() as session:
        change_id = _unfinished(store, book, which)
        if change_id is None:
            rates, total = _rates(store.query("reprice_groups", **which), book)
            (row,) = session.rows(
                "reprice_begin",
                pricing=book.describe(),
                rates=json.dumps(rates),
                total_interactions=total,
                **which,
            )
            change_id = row["change_id"]
        return _continue(session, change_id, progress, batch)


def resume(store: PostgresStore, *, progress: Progress | None = None, batch: int = BATCH) -> PriceChange:
    """Resume the re-pricing, or the undo, that was interrupted. Blocks.

    Raises:
        NotStoredError: None was interrupted.
    """
    for change in changes(store):
        if change["status"] in ("running", "summing"):
            with store.session() as session:
                return _continue(session, change["change_id"], progress, batch)
        if change["status"] in ("undoing", "resumming"):
            return undo(store, change["change_id"], progress=progress)
    raise NotStoredError("no re-pricing was interrupted")


def undo(store: PostgresStore, change_id: int | None = None, *, progress: Progress | None = None) -> PriceChange:
    """Restore the values that calls had before a re-pricing, to the last bit. Blocks. Resumes an interrupted undo.

    Args:
        store: The store of the calls.
        change_id: The re-pricing; None: the newest one that is not undone.
        progress: Called after every batch.

    Raises:
        NotStoredError: There is no such re-pricing, or it is already undone.
        ConfigError: A newer re-pricing is not undone; undoing it later would restore the wrong prices.
    """
    standing = [change for change in changes(store) if change["status"] != "undone"]
    if not standing:
        raise NotStoredError("there is no re-pricing to undo")
    wanted = standing[0]["change_id"] if change_id is None else change_id
    if wanted not in [change["change_id"] for change in standing]:
        raise NotStoredError(f"there is no re-pricing {wanted} to undo")
    if wanted != standing[0]["change_id"]:
        raise ConfigError(f"re-pricing {standing[0]['change_id']} is newer than {wanted}: undo the newest first")
    with store.session() as session:
        state = _state(session, wanted)
        total = done = state["changed_interactions"]
        if state["batches"]:
            session.run("reprice_analyze")
        while state["batches"]:
            done -= session.in_transaction(_undo_batch, wanted)
            state = _state(session, wanted)
            if progress is not None:
                progress(total - done, total)
        if state["status"] != "resumming":
            session.in_transaction(_reset_runs, wanted)
        _sum_runs(session, wanted)
        session.in_transaction(_restore_runs, wanted)
        _finish(session, wanted, "undone")
        return _state(session, wanted)


def changes(store: PostgresStore, limit: int = 1000) -> list[PriceChange]:
    """Return the re-pricings, newest first. Blocks for one query."""
    return cast("list[PriceChange]", store.query("price_changes", limit=limit))


# -- a re-pricing, step by step ----------------------------------------------------------------------------------------


def _unfinished(store: PostgresStore, book: PriceBook, which: Mapping[str, Any]) -> int | None:
    """Return the id of the same re-pricing if it was interrupted; raise if a different one was."""
    for change in changes(store):
        if change["status"] in ("done", "undone"):
            continue
        same = change["pricing"] == book.describe() and all(change[name] == which[name] for name in _SELECTION)  # type: ignore[literal-required]
        if same and change["status"] in ("running", "summing"):
            return change["change_id"]
        raise ConfigError(
            f"re-pricing {change['change_id']}, started {change['started_at']:%Y-%m-%d %H:%M} UTC, was interrupted: "
            "resume it (`rlm-cachetrack reprice --resume`) or undo it (`rlm-cachetrack reprice --undo`)"
        )
    return None


def _continue(session: Session, change_id: int, progress: Progress | None, batch: int) -> PriceChange:
    while (done := session.in_transaction(_do_batch, change_id, batch)) is not None:
        if progress is not None:
            progress(*done)
    _sum_runs(session, change_id)
    _finish(session, change_id, "done")
    return _state(session, change_id)


def _do_batch(session: Session, change_id: int, size: int) -> tuple[int, int] | None:
    """Price the next batch; return the number of calls done and of all calls, or None if no call remains."""
    state = session.rows("reprice_lock", change_id=change_id)[0]
    if state["status"] != "running":
        return None
    which = {name: state[name] for name in _SELECTION}
    after = {"after_time": state["cursor_time"], "after_id": state["cursor_id"]}
    (span,) = session.rows("reprice_next", size=size, **after, **which)
    if not span["interactions"]:
        session.run("reprice_collect_runs", change_id=change_id)
        session.run("reprice_analyze")
        session.run("reprice_status", change_id=change_id, status="summing")
        return None
    session.run("timescale_unbounded_dml")
    times = {"first_time": span["first_time"], "last_time": span["last_time"]}
    rates = json.dumps(state["rates"])
    session.run("reprice_stage", rates=rates, last_id=span["last_id"], **times, **after, **which)
    if details := session.rows("reprice_staged_details"):
        images = image_rates(state["rates"])
        session.run("reprice_stage_details", calls=json.dumps([new_values(row, images) for row in details]))
        session.run("reprice_stage_unchanged")
    session.run("reprice_save", change_id=change_id, batch=state["batches"] + 1)
    session.run("reprice_apply", **times)
    (changes,) = session.rows("reprice_batch")
    (now,) = session.rows(
        "reprice_advance",
        change_id=change_id,
        interactions=span["interactions"],
        last_time=span["last_time"],
        last_id=span["last_id"],
        **changes,
    )
    return now["looked_at"], max(state["total_interactions"], now["looked_at"])


def _undo_batch(session: Session, change_id: int) -> int:
    """Undo the newest batch; return how many calls it had changed."""
    batch = session.rows("reprice_lock", change_id=change_id)[0]["batches"]
    if not batch:
        return 0
    (span,) = session.rows("reprice_undo_span", change_id=change_id, batch=batch)
    if span["first_time"] is not None:
        session.run("timescale_unbounded_dml")
        session.run("reprice_undo", change_id=change_id, batch=batch, **span)
    count = session.run("reprice_delete_rows", change_id=change_id, batch=batch)
    session.run("reprice_batch_undone", change_id=change_id)
    return count


def _reset_runs(session: Session, change_id: int) -> None:
    session.run("reprice_reset_runs", change_id=change_id)
    session.run("reprice_status", change_id=change_id, status="resumming")


def _restore_runs(session: Session, change_id: int) -> None:
    session.run("reprice_undo_optimizations", change_id=change_id)
    session.run("reprice_undo_run_totals", change_id=change_id)
    session.run("reprice_delete_runs", change_id=change_id)


def _sum_runs(session: Session, change_id: int) -> None:
    while session.in_transaction(_sum_next_runs, change_id):
        pass


def _sum_next_runs(session: Session, change_id: int) -> bool:
    """Update the sums of the next runs; returns False if none is left."""
    session.rows("reprice_lock", change_id=change_id)
    (runs,) = session.rows("reprice_next_runs", change_id=change_id, size=_RUNS)
    if runs["last_run"] is None:
        return False
    session.run("reprice_stage_runs", change_id=change_id, **runs)
    session.run("reprice_optimizations")
    session.run("reprice_run_totals")
    session.run("reprice_runs_done", change_id=change_id, last_run=runs["last_run"])
    return True


def _finish(session: Session, change_id: int, status: str) -> None:
    state = session.rows("reprice_lock", change_id=change_id)[0]
    if state["first_time"] is not None:
        session.refresh_hours(state["first_time"], state["last_time"])
        session.recompress(state["first_time"], state["last_time"])
    session.run("reprice_status", change_id=change_id, status=status)


def _state(session: Session, change_id: int) -> PriceChange:
    (row,) = session.rows("reprice_lock", change_id=change_id)
    return cast("PriceChange", {name: row[name] for name in PriceChange.__annotations__})


# -- prices as rows ----------------------------------------------------------------------------------------------------


def _rates(groups: list[dict[str, Any]], book: PriceBook) -> tuple[list[dict[str, Any]], int]:
    """Return the prices of groups of calls as rows, and the number of calls."""
    rates: list[dict[str, Any]] = []
    for group in _merged(groups):
        schedule = book.schedule(model=group["model"], provider=group["provider"], service_tier=group["service_tier"])
        labels = {
            "model": group["model"],
            "provider": group["provider"] or "",
            "service_tier": group["service_tier"] or "",
        }
        rates += lay_out(labels, schedule, group["first_time"], group["last_time"])
    for model, provider in {(group["image_model"], group["provider"]) for group in groups if group["image_model"]}:
        labels = {"model": model, "provider": provider or "", "service_tier": IMAGES}
        first, last = (edge(groups, key=itemgetter(name))[name] for edge, name in _EDGES)
        rates += lay_out(labels, book.schedule(model=model, provider=provider), first, last)
    return rates, sum(group["interactions"] for group in groups)


_EDGES: Any = ((min, "first_time"), (max, "last_time"))


def _merged(groups: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one group for each model, provider and service tier."""
    merged: dict[tuple[Any, ...], dict[str, Any]] = {}
    for group in groups:
        known = merged.setdefault((group["model"], group["provider"], group["service_tier"]), dict(group))
        known["first_time"] = min(known["first_time"], group["first_time"])
        known["last_time"] = max(known["last_time"], group["last_time"])
    return list(merged.values())


def lay_out(
    labels: Mapping[str, Any], schedule: Schedule | None, first: datetime, last: datetime
) -> Iterator[dict[str, Any]]:
    """Yield the prices of one group of calls, one row per period and prompt size.

    Args:
        labels: Columns of every row: ``model``, ``provider`` and ``service_tier``.
        schedule: The prices; None yields one unpriced row.
        first: The first moment (aware, included).
        last: The last moment (aware, included).

    Raises:
        PricingError: The prices can change at any moment.
    """
    for begin, end, period in _periods(labels, schedule, first, last):
        times = {"valid_from": begin.isoformat(), "valid_to": end.isoformat()}
        if period is None:
            reason = no_price_reason(labels["model"], labels["provider"] or None, labels["service_tier"] or None)
            yield {
                **labels,
                **times,
                "above": -1,
                "up_to": _LARGEST,
                "source": None,
                "reason": reason,
                "by_tokens_alone": True,
            }
            continue
        starts = (-1, *period.starts, _LARGEST)
        for index, rates in enumerate(period.rates):
            yield {
                **labels,
                **times,
                "above": starts[index],
                "up_to": starts[index + 1],
                **dict(zip(("prompt", "cached", "cache_write", "completion"), rates.prices, strict=True)),
                "source": rates.source,
                "by_tokens_alone": not rates.has_surcharges,
                "extras": dict(rates.extras),
                "regions": dict(rates.regions),
                "windows": dict(rates.windows),
                "speeds": dict(rates.speeds),
            }


def _periods(
    labels: Mapping[str, Any], schedule: Schedule | None, first: datetime, last: datetime
) -> Iterator[tuple[datetime, datetime, Period | None]]:
    if schedule is None or schedule.always is not None:
        yield first, last, None if schedule is None else schedule.always
        return
    days, times = schedule.changes
    if times is None:
        raise PricingError(
            f"the prices of {labels['model']} can change at any moment, so its calls cannot be re-priced"
        )
    begins = sorted({first, *_moments(days, times, first, last)})
    found: list[tuple[datetime, Period | None]] = []
    for begin in begins:
        period = schedule.at(begin)
        if not found or found[-1][1] != period:
            found.append((begin, period))
    for index, (begin, period) in enumerate(found):
        # The resolution of PostgreSQL is a microsecond.
        end = last if index + 1 == len(found) else found[index + 1][0] - timedelta(microseconds=1)
        yield begin, end, period


def _moments(days: list[int], times: list[time], first: datetime, last: datetime) -> Iterator[datetime]:
    """Yield the moments at which prices can change, after ``first`` and up to ``last``."""
    for day in days:
        moment = datetime.combine(datetime.fromordinal(day), time(0), UTC)
        if first < moment <= last:
            yield moment
    if not times:
        return
    for day in range(first.toordinal(), last.toordinal() + 1):
        for at in (time(0), *times):
            moment = datetime.combine(datetime.fromordinal(day), at, UTC)
            if first < moment <= last:
                yield moment
