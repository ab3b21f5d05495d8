"""Fetch newer price lists, and keep them in the store, so that all processes use them.

A list is fetched by ``rlm-cachetrack prices update``, or once a day in the background by a process that records, if
``RLM_CACHETRACK_PRICES_UPDATE`` is ``daily``. Every writer looks for a newer list in the store once per minute.
"""

from __future__ import annotations

import logging
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlm_cachetrack._process import guard, no_fork
from rlm_cachetrack.config import ENV_PRICES_UPDATE, Settings, redact
from rlm_cachetrack.errors import CacheTrackError, PriceListError, StoreUnreachableError

if TYPE_CHECKING:
    from rlm_cachetrack.pricing import ListDifference, PriceList
    from rlm_cachetrack.store import PostgresStore

    from .runtime import Runtime

logger = logging.getLogger("rlm_cachetrack")

_POLL_EVERY_S = 60.0
_CHECK_DAILY_EVERY_S = 3600.0
_SOCKET_TIMEOUT_S = 10.0
_FETCH_TIMEOUT_S = 60.0
_MAX_BYTES = 64 << 20


@dataclass(frozen=True)
class Fetched:
    """A price list that was read from an address or a file.

    Attributes:
        origin: The address or file, without password and query string.
        data: The file as published.
        prices: The same, checked.
    """

    origin: str
    data: bytes
    prices: PriceList


@dataclass(frozen=True)
class Update:
    """The result of an update.

    Attributes:
        fetched: The newer list.
        difference: The difference to the list in use before.
        in_use: The price source of the list that is in use now.
        is_stored: True if the list was stored; False if it is the one in use, or nothing was to be stored.
    """

    fetched: Fetched
    difference: ListDifference
    in_use: str
    is_stored: bool


def read_list(origin: str | None) -> Fetched:
    """Read a price list from an http address or a file, and check it. Blocks for up to a minute.

    Args:
        origin: The address or file; None: where genai-prices publishes its data.

    Raises:
        PriceListError: It cannot be read, or is not a price list of genai-prices.
    """
    from rlm_cachetrack.pricing import fetch_address, parse

    source = fetch_address() if origin is None else origin
    is_address = re.match(r"https?://", source, re.IGNORECASE) is not None
    shown = redact(source.partition("?")[0]) if is_address else source
    data = _fetch(source, shown) if is_address else _read_file(source)
    return Fetched(shown, data, parse(data, datetime.now(UTC).date(), shown))


def _read_file(source: str) -> bytes:
    try:
        return Path(source).expanduser().read_bytes()
    except OSError as exc:
        raise PriceListError(
            f"{source} cannot be read: {exc.strerror or exc}; expected a file or an http address"
        ) from exc


def _fetch(address: str, shown: str) -> bytes:
    deadline = time.monotonic() + _FETCH_TIMEOUT_S
    request = urllib.request.Request(address, headers={"User-Agent": "rlm_cachetrack"})  # noqa: S310 - http only
    parts: list[bytes] = []
    size = 0
    try:
        with urllib.request.urlopen(request, timeout=_SOCKET_TIMEOUT_S) as response:  # noqa: S310 - http only
            while part := response.read1(1 << 20):
                parts.append(part)
                size += len(part)
                if size > _MAX_BYTES:
                    raise PriceListError(f"{shown} is larger than {_MAX_BYTES >> 20} MiB, which no price list is")
                if time.monotonic() > deadline:
                    raise PriceListError(f"{shown} did not respond completely within {_FETCH_TIMEOUT_S:g} s")
    except urllib.error.HTTPError as exc:
        exc.close()
        raise PriceListError(f"{shown} returned status {exc.code}") from None
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "reason", None) or exc
        raise PriceListError(
            f"{shown} cannot be fetched: {redact(str(reason))}. "
            "Without a network, pass a downloaded file: `rlm-cachetrack prices update --from FILE`"
        ) from None
    return b"".join(parts)


def newest(store: PostgresStore) -> PriceList | None:
    """Return the price list in the store; None if there is none. Blocks for one query, and 0.3 s to check the list.

    Raises:
        StoreError: The store failed.
        PriceListError: The installed genai-prices cannot read the stored list.
    """
    rows = store.query("price_list_newest", known=None)
    return _parsed(rows[0]) if rows else None


def stored_price_list(runtime: Runtime) -> PriceList | None:
    """Return the price list in the store of a runtime, without migrating it or starting the embedded server. Blocks.

    Returns:
        None if none is stored, or if the embedded server does not run.

    Raises:
        StoreError: The store cannot be read.
    """
    from rlm_cachetrack.store import embedded

    settings = runtime.settings
    if settings.db_url is None and not embedded.status(settings.data_dir).running:
        return None
    store = runtime.store()
    with store.connection() as connection:
        rows = store.query_on(connection, "price_list_newest", known=None)
    return _parsed(rows[0]) if rows else None


def update(
    store: PostgresStore, fetched: Fetched, *, accept_implausible: bool = False, dry_run: bool = False
) -> Update:
    """Compare a price list with the one in use, and store it unless it is the same. Blocks.

    Args:
        store: The store.
        fetched: The newer list.
        accept_implausible: Store it despite price changes that are not plausible.
        dry_run: Only compare.

    Raises:
        PriceListError: A change is not plausible.
        StoreError: The store failed.
    """
    from rlm_cachetrack.pricing import compare, installed, sha8_of

    current = newest(store) or installed()
    difference = compare(current, fetched.prices)
    sha8 = sha8_of(fetched.data)
    if current.source.endswith(f"-{sha8}"):
        return Update(fetched, difference, current.source, False)
    if difference.objections and not accept_implausible:
        raise PriceListError(_refusal(fetched.origin, difference.objections))
    if dry_run:
        return Update(fetched, difference, current.source, False)
    text = fetched.data.decode("utf-8-sig")
    with store.session() as session:
        (row,) = session.rows("price_list_insert", origin=fetched.origin, sha8=sha8, data=text)
        session.run("price_list_prune")
    return Update(fetched, difference, _source(row["fetched_at"].date(), sha8), True)


def _refusal(origin: str, objections: list[str]) -> str:
    shown = objections[:5]
    more = f", and {len(objections) - len(shown)} more" if len(objections) > len(shown) else ""
    return (
        f"the prices of {origin} are not plausible, so nothing was stored: {'; '.join(shown)}{more}. "
        "If they are right: `rlm-cachetrack prices update --accept-implausible`"
    )


def _source(day: date, sha8: str) -> str:
    return f"genai-prices:{day.isoformat()}-{sha8}"


def _parsed(row: dict[str, Any]) -> PriceList:
    from rlm_cachetrack.pricing import parse

    return parse(row["data"].encode(), row["fetched_at"].date(), f"the stored price list {row['list_id']}")


class PriceListWatch:
    """The price list of one store, as its processes use it.

    Args:
        settings: ``prices_update`` and ``prices_url``.

    Attributes:
        prices: The stored list; None: that of the installed release.
    """

    def __init__(self, settings: Settings) -> None:
        self.prices: PriceList | None = None
        self._daily = settings.prices_update == "daily"
        self._address = settings.prices_url
        self._known: int | None = None
        self._next_poll = self._next_daily = 0.0
        self._thread: threading.Thread | None = None
        self._warned = False

    def poll_as_writer(self, store: PostgresStore) -> None:
        """Use the newest list of the store, and update it daily if that is set. Blocks for one query once per minute.

        Called on the writer thread; never raises.
        """
        if time.monotonic() >= self._next_poll:
            self._next_poll = time.monotonic() + _POLL_EVERY_S
            self._poll(store.query_as_writer)
            if self._daily:
                self._start_daily(store)

    def poll(self, store: PostgresStore) -> None:
        """Use the newest list of the store. Blocks for one query; never raises."""
        self._poll(store.query)

    def _poll(self, query: Callable[..., list[dict[str, Any]]]) -> None:
        try:
            rows = query("price_list_newest", known=self._known)
            if rows and rows[0]["list_id"] != self._known:
                with no_fork():
                    self.prices = _parsed(rows[0])
                self._known = rows[0]["list_id"]
        except StoreUnreachableError:
            return  # the writer reports it when it stores the next batch
        except CacheTrackError as exc:
            self._warn("the price list of the store is not used; prices do not change: %s", exc)
        except Exception as exc:
            guard.report("reading the price list", exc)

    def _start_daily(self, store: PostgresStore) -> None:
        """Begin the daily update on a separate thread, so that a slow server delays no record."""
        if time.monotonic() < self._next_daily or (self._thread is not None and self._thread.is_alive()):
            return
        self._next_daily = time.monotonic() + _CHECK_DAILY_EVERY_S
        self._thread = threading.Thread(
            target=self._update_daily, args=(store,), name="rlm_cachetrack-prices", daemon=True
        )
        try:
            self._thread.start()
        except RuntimeError:  # the interpreter is ending, or the system allows no more threads
            self._thread = None

    def _update_daily(self, store: PostgresStore) -> None:
        try:
            with store.session() as session:
                if not session.rows("price_list_claim", origin=redact(self._address or "genai-prices")):
                    return
            result = update(store, read_list(self._address))
        except CacheTrackError as exc:
            logger.warning("the daily update of prices failed; the next attempt is tomorrow: %s", exc)
            return
        except Exception as exc:
            guard.report("updating prices", exc)
            return
        if result.is_stored:
            self._next_poll = 0.0
            changed = len(result.difference.changed)
            logger.info("prices updated: %s, %d prices changed (%s)", result.in_use, changed, ENV_PRICES_UPDATE)

    def _warn(self, message: str, exc: Exception) -> None:
        if not self._warned:
            self._warned = True
            logger.warning(message, exc)
