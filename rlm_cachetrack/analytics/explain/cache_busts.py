"""Find the calls of a run that broke a prefix which the run had cached, also while the run is still in progress."""

from __future__ import annotations

import json
import logging
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack

from rlm_cachetrack.analytics.filters import ContentFilters, query_parameters
from rlm_cachetrack.errors import CacheBustWarning
from rlm_cachetrack.fingerprint import FingerprintChain
from rlm_cachetrack.formatting import clean, usd
from rlm_cachetrack.records import COLUMNS, RecordBatch

from .report import CallVerdict, calls_of_runs, explain_rows

if TYPE_CHECKING:
    from rlm_cachetrack.store import PostgresStore

logger = logging.getLogger("rlm_cachetrack")

_MIN_TOKENS_LOST = 1_024  # also in the query ``bust_candidates`` and its index
_BREAKS = frozenset(("prefix_changed", "settings_changed", "model_changed", "key_changed"))
_JSON_COLUMNS = ("request_options", "cache_diagnostics")

_MAX_CALLS = 150
"""The number of calls of a run that are compared: explaining them takes about 30 ms."""
_MAX_RUNS = 64
_RUNS_PER_QUERY, _CALLS_PER_QUERY = 20, 2_000
_MAX_RUNS_SEARCHED = 50_000

_Run = tuple[str, datetime]
_Cause = tuple[str, str]


@dataclass(slots=True)
class _WatchedRun:
    """The newest calls of a run, with complete fingerprints, and the causes that were reported."""

    calls: list[Mapping[str, Any]] = field(default_factory=list)
    causes: set[_Cause] = field(default_factory=set)
    chain: FingerprintChain = field(default_factory=FingerprintChain)

    def add(self, rows: Sequence[Mapping[str, Any]]) -> set[str]:
        """Add the next calls. Returns their ids."""
        known = self.chain.complete((row["interaction_id"], row["fingerprint"]) for row in rows)
        ids = [str(row["interaction_id"]) for row in rows]
        added = [{**row, "fingerprint": known.get(name)} for name, row in zip(ids, rows, strict=True)]
        self.calls = [*self.calls[-_MAX_CALLS:], *added]
        return set(ids)


def find_busts(query_id: str, run_id: datetime, rows: Iterable[Mapping[str, Any]]) -> list[CallVerdict]:
    """Return the calls that broke a prefix which the run had cached, and lost more than 1,024 tokens. Pure.

    Args:
        query_id: The query.
        run_id: The run of the query.
        rows: The calls of the run, keyed by the columns of ``llm_interactions``.
    """
    calls = [_explained_row(row) for row in rows if row["api"] != "embeddings"]
    explained = explain_rows(query_id, run_id, calls)["interactions"]
    return [each for each in explained if each["verdict"] in _BREAKS and each["tokens_lost"] > _MIN_TOKENS_LOST]


class FoundBusts(NamedTuple):
    """The calls that broke a cached prefix in a time range.

    Attributes:
        calls: The calls.
        runs: The number of runs in which such a call is possible.
        compared: The number of those runs whose calls were compared.
    """

    calls: list[CallVerdict]
    runs: int
    compared: int


@dataclass(slots=True)
class _ComparedRun:
    """The busts of a run, and its newest candidate and the number of its candidates when its calls were compared."""

    newest: datetime
    candidates: int
    busts: list[CallVerdict]


class BustSearch:
    """Finds the calls of a time range that broke a prefix which their run had cached, again and again.

    It keeps the busts of each run, and compares the calls of a run again only if more of them may be busts than before.
    One search has the same filters each time.
    """

    def __init__(self) -> None:
        self._compared: dict[_Run, _ComparedRun] = {}

    def since(
        self, store: PostgresStore, since: datetime, most_calls: int, **filters: Unpack[ContentFilters]
    ) -> FoundBusts:
        """Return the calls since a given time that broke a prefix which their run had cached.

        Blocks for one query, and for each 20 runs with new calls two queries and about 0.2 ms per call.

        Args:
            store: The store to read.
            since: The beginning of the time range, which ends now.
            most_calls: Compare about this number of calls, those of the newest runs; later searches continue with the
                others. The older calls of their runs count.
            **filters: Only runs with such calls, and calls of the model.
        """
        candidates = store.query(
            "bust_candidates", limit=_MAX_RUNS_SEARCHED, **query_parameters({**filters, "since": since, "until": None})
        )
        rows = {(row["query_id"], row["run_id"]): row for row in candidates}
        self._compared = {run: known for run, known in self._compared.items() if run in rows}
        changed = [run for run, row in rows.items() if self._is_changed(run, row)]
        while changed and most_calls > 0:
            some, changed = changed[:_RUNS_PER_QUERY], changed[_RUNS_PER_QUERY:]
            by_run: dict[_Run, list[Mapping[str, Any]]] = {run: [] for run in some}
            for call in _calls(store, some, most_calls):
                by_run[call["query_id"], call["run_id"]].append(call)
                most_calls -= 1
            for run, calls in by_run.items():
                self._compare(run, rows[run], calls)
        model = filters.get("model")
        found = [bust for known in self._compared.values() for bust in known.busts]
        busts = [bust for bust in found if bust["time"] >= since and model in (None, bust["model"])]
        return FoundBusts(busts, candidates[0]["runs"] if candidates else 0, len(self._compared.keys() - set(changed)))

    def _is_changed(self, run: _Run, row: Mapping[str, Any]) -> bool:
        known = self._compared.get(run)
        if known is None or known.newest != row["newest"] or known.candidates < row["candidates"]:
            return True
        known.candidates = row["candidates"]  # the others are older than the time range now
        return False

    def _compare(self, run: _Run, row: Mapping[str, Any], calls: list[Mapping[str, Any]]) -> None:
        oldest = min((call["time"] for call in calls), default=row["newest"])
        known = self._compared.get(run)
        older = [bust for bust in known.busts if bust["time"] < oldest] if known is not None else []
        self._compared[run] = _ComparedRun(row["newest"], row["candidates"], [*older, *find_busts(*run, calls)])


def _calls(store: PostgresStore, runs: list[_Run], most_calls: int) -> list[dict[str, Any]]:
    """Return the newest calls of some runs, at most 2,000 per query, so that no query takes long."""
    calls = calls_of_runs(store, runs, min(most_calls, _CALLS_PER_QUERY))
    if len(runs) == 1 or len(calls) < _CALLS_PER_QUERY:
        return calls
    middle = len(runs) // 2
    return [*_calls(store, runs[:middle], most_calls), *_calls(store, runs[middle:], most_calls)]


def bust_words(bust: CallVerdict) -> str:
    """Describe the change and its cost in a sentence without the final period."""
    cost = "cost unknown" if bust["usd_lost"] is None else usd(bust["usd_lost"])
    return f"{bust['words']}. {bust['tokens_lost']:,} tokens were not read from the cache ({cost})"


class BustWatch:
    """Logs a warning for the first call of a run that breaks a cached prefix, for each cause.

    A call is compared with the previous 150 calls of its run. Used only by the writer thread.
    """

    def __init__(self) -> None:
        self._runs: OrderedDict[_Run, _WatchedRun] = OrderedDict()

    def observe(self, batch: RecordBatch) -> None:
        """Compare the calls of a batch with the earlier ones of their runs. Takes up to 0.1 s per run and 150 calls."""
        fresh: dict[_Run, list[Mapping[str, Any]]] = {}
        for values in batch.interactions:
            row = dict(zip(COLUMNS, values, strict=True))
            fresh.setdefault((row["query_id"], row["run_id"]), []).append(row)
        for run, rows in fresh.items():
            watched = self._runs.setdefault(run, _WatchedRun())
            self._runs.move_to_end(run)
            for start in range(0, len(rows), _MAX_CALLS):
                _warn(run, watched, watched.add(rows[start : start + _MAX_CALLS]))
        for end in batch.run_ends:
            self._runs.pop((end.query_id, end.run_id), None)
        while len(self._runs) > _MAX_RUNS:
            self._runs.popitem(last=False)


def _warn(run: _Run, watched: _WatchedRun, fresh: set[str]) -> None:
    query_id, run_id = run
    for bust in find_busts(query_id, run_id, watched.calls):
        cause = _cause(bust)
        if bust["interaction_id"] not in fresh or cause in watched.causes:
            continue
        watched.causes.add(cause)
        logger.warning(
            "%s: %s. Run %s of %s; further calls of this run with the same cause are not reported",
            CacheBustWarning.__name__,
            bust_words(bust),
            run_id.isoformat(),
            clean(query_id),
            extra={"category": CacheBustWarning},
        )


def _cause(bust: CallVerdict) -> _Cause:
    """Return the key of a bust's cause within its run; changes in different messages have the same key."""
    segment = bust["segment"] or ""
    return bust["verdict"], bust["setting"] or ("message" if segment.startswith("message") else segment)


def _explained_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a stored row in the form of the query ``explain_calls``."""
    texts = {name: json.loads(row[name]) for name in _JSON_COLUMNS if isinstance(row[name], str)}
    return {**row, **texts, "interaction_id": str(row["interaction_id"])}
