"""A fixture for pytest: ``assert cachetrack.hit_rate > 0.6``. Needs no database and no network.

The fixture keeps the calls of a test in memory, with their prices, and writes only a journal in a temporary folder.
pytest finds the plugin through the package's entry point.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

if TYPE_CHECKING:
    from rlm_cachetrack.analytics import Gate
    from rlm_cachetrack.analytics.explain import CallVerdict
    from rlm_cachetrack.records import RecordBatch
    from rlm_cachetrack.runs import QueryRun

__all__ = ["CacheTrack", "cachetrack"]

T = TypeVar("T")


class _Memory:
    """A record sink that keeps rows in memory, by ``interaction_id``."""

    def __init__(self, store_id: str) -> None:
        self.store_id = store_id
        self.rows: dict[Any, dict[str, Any]] = {}

    def store(self, batch: RecordBatch) -> None:
        from rlm_cachetrack.records import COLUMNS

        for values in batch.interactions:
            row = dict(zip(COLUMNS, values, strict=True))
            self.rows[row["interaction_id"]] = row

    def close(self) -> None:
        """Do nothing: no resource is open."""


class CacheTrack:
    """The OpenAI calls of a test. Figures cover the calls so far; reading one waits until they are recorded.

    Attributes:
        run: The run that the calls belong to; see :func:`~.query_run`.
    """

    def __init__(self, memory: _Memory, run: QueryRun) -> None:
        self.run = run
        self._memory = memory

    def __repr__(self) -> str:
        """Return the figures so far, which pytest shows for a failed assert."""
        from rlm_cachetrack.analytics import compare_rows, rows_of_calls
        from rlm_cachetrack.formatting import number, rate, usd

        calls = self.interactions
        if not calls:
            return "<cachetrack: no call>"
        rows = rows_of_calls(calls)
        found = {metric["name"]: metric["b"] for metric in compare_rows(rows, rows)["metrics"]}
        return (
            f"<cachetrack: {len(calls)} calls, hit rate {rate(found.get('cache_hit_rate'))}, "
            f"{number(found.get('cached_tokens'))} of {number(found.get('prompt_tokens'))} prompt tokens cached, "
            f"cost {usd(found.get('total_cost'))}>"
        )

    @property
    def interactions(self) -> list[dict[str, Any]]:
        """Return the calls in order of time, keyed by the columns of ``llm_interactions``."""
        from rlm_cachetrack import flush

        if not flush(30):
            pytest.fail("cachetrack: the recorded calls could not be read within 30 s")
        mine = [row for row in self._memory.rows.values() if row["query_id"] == self.run.query_id]
        return sorted(mine, key=lambda row: (row["time"], str(row["interaction_id"])))

    @property
    def calls(self) -> int:
        """Return the number of calls."""
        return len(self.interactions)

    @property
    def hit_rate(self) -> float:
        """Return Σ cached ÷ Σ prompt tokens (0-1) of the calls that reported both; fail the test if none did."""
        return self._known("cache_hit_rate", "no call reported its cache use")

    @property
    def cost(self) -> float:
        """Return the USD that the priced calls cost; fail the test if none is priced."""
        return self._known("total_cost", "no call has a known price")

    @property
    def savings(self) -> float:
        """Return the USD that the cache saved, minus the cost of writes; fail the test if no call is priced."""
        return self._known("original_cost", "no call has a known price") - self.cost

    @property
    def prompt_tokens(self) -> int:
        """Return the input tokens, cached ones included."""
        return int(self._known("prompt_tokens", "no call reported its tokens"))

    @property
    def cached_tokens(self) -> int:
        """Return the tokens read from the cache."""
        return int(self._known("cached_tokens", "no call reported its cache use"))

    @property
    def uncached_tokens(self) -> int:
        """Return the input tokens not read from the cache."""
        return int(self._known("uncached_prompt_tokens", "no call reported its cache use"))

    @property
    def busts(self) -> list[CallVerdict]:
        """Return the calls that broke a prefix which the test had cached, and lost more than 1,024 tokens.

        ``words`` describes what changed: ``assert not cachetrack.busts``.
        """
        from rlm_cachetrack.analytics.explain import find_busts

        return find_busts(self.run.query_id, self.run.run_id, self.interactions)

    def iterations(self, items: Iterable[T], start: int = 1) -> Iterator[T]:
        """Yield ``items`` and set the iteration number for each; see ``run.iterations``."""
        return self.run.iterations(items, start)

    def check(
        self, *, baseline: str | os.PathLike[str] | None = None, name: str | None = None, **limits: float | str | None
    ) -> Gate:
        """Fail the test if a limit is exceeded; see :meth:`~rlm_cachetrack.TimescaleDBClient.check_run`.

        Args:
            baseline: A file that :meth:`save` or ``rlm-cachetrack check --save`` wrote.
            name: The name of the figures in the baseline; None: the name of this test.
            limits: The limits of ``check_run``: ``min_hit_rate=0.6``, ``max_cost_delta="5%"``, …

        Raises:
            ConfigError: No limit is given, or one cannot be used.
        """
        from rlm_cachetrack.analytics import gate

        before = None if baseline is None else gate.read_baseline(baseline, name or self.run.query_id)
        found = gate.check_rows(self._rows(), before, **limits)
        if not found["passed"]:
            pytest.fail("\n".join(each["words"] for each in found["checks"] if not each["passed"]))
        return found

    def save(self, baseline: str | os.PathLike[str], name: str | None = None) -> None:
        """Write the figures into a baseline file, under ``name`` or the test's name."""
        from rlm_cachetrack.analytics import gate

        gate.write_baseline(baseline, name or self.run.query_id, self._rows())

    def _rows(self) -> list[dict[str, Any]]:
        from rlm_cachetrack.analytics import rows_of_calls

        calls = self.interactions
        if not calls:
            pytest.fail(
                "cachetrack: no call was recorded; was it made in another process, or without an OpenAI client?"
            )
        return rows_of_calls(calls)

    def _known(self, name: str, reason: str) -> float:
        from rlm_cachetrack.analytics import compare_rows

        rows = self._rows()
        value = next(metric["b"] for metric in compare_rows(rows, rows)["metrics"] if metric["name"] == name)
        if value is None:
            pytest.fail(f"cachetrack: {reason}")
        return value


@pytest.fixture
def cachetrack(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[CacheTrack]:
    """Record the OpenAI calls of this test: ``assert cachetrack.hit_rate > 0.6``."""
    # analytics: imported before the writer thread starts, which imports as well. pytest parses our modules to rewrite
    # their asserts, and some releases of CPython 3.11 and 3.12 raise SystemError if two threads parse at the same time.
    # Source: https://github.com/python/cpython/issues/106905, read 2026-12-01.
    from rlm_cachetrack import analytics, instrument, query_run, shutdown, uninstrument  # noqa: F401
    from rlm_cachetrack.config import ENV_STATE_DIR, disabled
    from rlm_cachetrack.pipeline import runtimes

    if disabled():
        pytest.skip("RLM_CACHETRACK_DISABLED=1 turns recording off")
    if runtimes.peek_default() is not None:
        pytest.fail(
            "cachetrack: this process already records into a store (instrument() was called); call uninstrument() and "
            "shutdown() first, or leave recording to the fixture"
        )
    folder = tmp_path_factory.mktemp("cachetrack")
    monkeypatch.setenv(ENV_STATE_DIR, str(folder))  # the user's journals stay unchanged
    memory = _Memory(f"pytest:{folder}")
    instrument(store=memory)
    try:
        with query_run(request.node.nodeid) as run:
            yield CacheTrack(memory, run)
    finally:
        uninstrument()
        shutdown(5)
