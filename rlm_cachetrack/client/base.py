"""The base of every part of the client: the pipeline of its store, opening and closing, and checked arguments."""

from __future__ import annotations

import os
import threading
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rlm_cachetrack.capture import context
from rlm_cachetrack.config import load_settings
from rlm_cachetrack.errors import CacheTrackError, ConfigError, PricingError, StoreError
from rlm_cachetrack.pipeline import FLUSH_TIMEOUT_S, Runtime, runtimes
from rlm_cachetrack.records import aware, checked_query_id, checked_tags, clean_text

if TYPE_CHECKING:
    from rlm_cachetrack.analytics import CallFilters
    from rlm_cachetrack.store import PostgresStore


class ClientBase:
    """Opens the pipeline of a store, and closes it.

    Attributes:
        pricing_error: Why the pricing file cannot be used; only :class:`~.facade.ReadingClient` continues despite an
            error.
    """

    def __init__(
        self, db_url: str | None = None, pool_size: int = 10, pricing: str | os.PathLike[str] | None = None
    ) -> None:
        settings = load_settings(db_url, pool_size=pool_size, pricing=pricing)
        self._runtime = runtimes.open(settings)
        if pricing is not None and self._runtime.settings.pricing != settings.pricing:
            raise ConfigError(
                f"this process already prices with {self._runtime.settings.pricing or 'the built-in table'}; "
                f"pricing={os.fspath(pricing)!r} would be a second price list for the same store"
            )
        self.pricing_error: PricingError | None = None
        try:
            self._check_pricing()
            self._runtime.store().open()
        except CacheTrackError:
            # The next attempt may name another password or price list for the same store.
            if not self._runtime.users and runtimes.peek_default() is not self._runtime:
                self._runtime.close(0)
            raise
        self._runtime.users += 1
        if self.pricing_error is None:
            self._runtime.start()
        self._context: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._closed = False

    @property
    def runtime(self) -> Runtime:
        """The pipeline behind this client; for ``instrument(store=client)``."""
        self._check_open()
        return self._runtime

    def reader(self) -> PostgresStore:
        """Return the store to read from, once everything recorded before is stored. Blocks until then.

        Raises:
            StoreUnreachableError: The records could not be stored in time.
        """
        self._check_open()
        if self.pricing_error is not None:  # journaled records cannot be priced now, and therefore not stored
            return self._runtime.store()
        return self._runtime.reader()

    def flush(self, timeout_s: float = FLUSH_TIMEOUT_S) -> bool:
        """Wait for at most ``timeout_s`` seconds until everything recorded is stored; returns True if it is."""
        return self._runtime.flush(timeout_s)

    def stats(self) -> dict[str, Any]:
        """Return the counts of this client's store; see :func:`rlm_cachetrack.stats`."""
        return self._runtime.stats()

    def close(self) -> None:
        """Store the waiting records (for at most ``shutdown_timeout_s``), and close the connections."""
        if self._closed:
            return
        self._closed = True
        if context.manual() is self._context:
            context.set_manual(None)
        runtime = self._runtime
        runtime.users -= 1
        if runtime.users or runtimes.peek_default() is runtime:
            runtime.flush(runtime.settings.shutdown_timeout_s)
        else:
            runtime.close(runtime.settings.shutdown_timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError("this TimescaleDBClient is closed")

    def _check_pricing(self) -> None:
        self._runtime.check_pricing()

    def _key(self, query_id: str, run_id: datetime | str) -> tuple[str, datetime]:
        self._check_open()
        return checked_query_id(query_id), aware(run_id, "run_id")


def optional_moment(value: datetime | str | None, name: str) -> datetime | None:
    """Check that a datetime has a time zone; None is returned as None.

    Raises:
        RecordError: The datetime has no time zone.
    """
    return None if value is None else aware(value, name)


def checked_filters(given: CallFilters) -> CallFilters:
    """Return filters as the queries expect them.

    Raises:
        RecordError: A datetime has no time zone, or a tag is unusable.
    """
    return {
        "since": optional_moment(given.get("since"), "since"),
        "until": optional_moment(given.get("until"), "until"),
        "model": clean_optional(given.get("model")),
        "provider": clean_optional(given.get("provider")),
        "query_id": clean_optional(given.get("query_id")),
        "tags": checked_tags(given.get("tags")),
    }


def clean_optional(text: str | None) -> str | None:
    """Return text as it is stored; None is returned as None."""
    return None if text is None else clean_text(text)
