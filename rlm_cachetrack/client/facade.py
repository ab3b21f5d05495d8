"""``TimescaleDBClient``: the documented facade, composed of one module per topic."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlm_cachetrack.config import load_settings
from rlm_cachetrack.errors import PricingError
from rlm_cachetrack.pipeline import Runtime, runtimes

from .comparing import Comparing
from .planning import Planning
from .reading import Reading
from .recording import Recording

if TYPE_CHECKING:
    from rlm_cachetrack.pipeline import Runtime


class TimescaleDBClient(Recording, Reading, Comparing, Planning):
    """Records calls manually, and reads recorded calls. A context manager; safe for several threads.

    Opening it connects, brings the schema up to date, and recovers the journals of dead processes. Its methods block;
    in asyncio use ``asyncio.to_thread``. Reads include everything that this process recorded before them.

    Args:
        db_url: Address of a TimescaleDB or any PostgreSQL. None: ``RLM_CACHETRACK_DB_URL``, else ``TIMESCALE_DB_URL``,
            else the embedded PostgreSQL, which is started if needed.
        pool_size: Maximum number of connections for reads.
        pricing: A pricing YAML whose prices override the built-in ones.

    Raises:
        ConfigError: An argument is unusable (:class:`~.errors.PricingError`: the pricing file).
        StoreUnreachableError: No connection could be opened.
        MigrationError: The database's schema cannot be used by this release.
    """


class ReadingClient(TimescaleDBClient):
    """A client that opens even if the pricing file has an error; it then reads the store and writes nothing.

    Attributes:
        pricing_error: The error; None if there is none, and the client then works like any other.
    """

    def _check_pricing(self) -> None:
        try:
            super()._check_pricing()
        except PricingError as exc:
            self.pricing_error = exc


def runtime_for(db_url: str | None = None) -> Runtime:
    """Return the pipeline of a store without connecting to it or starting it. Does not block.

    ``doctor`` and ``migrate`` use it: they inspect the database, which opening a client would migrate.

    Raises:
        ConfigError: ``db_url`` or a setting of the environment is unusable.
    """
    return runtimes.open(load_settings(db_url))
