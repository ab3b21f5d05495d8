"""Every error this library raises on purpose. One root, so one ``except`` is enough.

::

    CacheTrackError
    ├── ConfigError              an argument or a setting is wrong               (also a ValueError)
    │   └── PricingError         a pricing file: where, which key, what was expected
    ├── RecordError              a hand-made record contradicts itself           (also a ValueError)
    ├── StoreError               the database
    │   ├── StoreUnreachableError    no connection: address, network, credentials
    │   │   └── EmbeddedError        the embedded PostgreSQL is missing or does not start
    │   ├── MigrationError           the schema cannot be brought up to date
    │   │   └── SchemaTooNewError    the database was migrated by a newer release
    │   ├── NotStoredError           what was asked for is not there
    │   └── QueryError               the server refused a statement
    │       └── RecordRejectedError       because of a record in it: without that record, the others can be stored
    └── InternalError            a defect of ours; raised in tests only, counted elsewhere

No message holds a password: addresses pass through :func:`.redact` first.
"""

from __future__ import annotations

__all__ = [
    "CacheTrackError",
    "ConfigError",
    "EmbeddedError",
    "InternalError",
    "MigrationError",
    "NotStoredError",
    "PricingError",
    "QueryError",
    "RecordError",
    "RecordRejectedError",
    "SchemaTooNewError",
    "StoreError",
    "StoreUnreachableError",
]


class CacheTrackError(Exception):
    """The root of every error of this library."""


class ConfigError(CacheTrackError, ValueError):
    """An argument, an environment variable or a file of settings is wrong."""


class PricingError(ConfigError):
    """A pricing file cannot be used; the message names file, line, key and what was expected."""


class RecordError(CacheTrackError, ValueError):
    """A record made by hand contradicts itself (negative tokens, more cached than prompt tokens, …)."""


class StoreError(CacheTrackError):
    """The database failed; the driver's own error is the ``__cause__``."""


class StoreUnreachableError(StoreError):
    """No connection to the database could be had."""


class EmbeddedError(StoreUnreachableError):
    """The embedded PostgreSQL is not installed or did not start."""


class MigrationError(StoreError):
    """The schema could not be brought up to date; nothing was changed."""


class SchemaTooNewError(MigrationError):
    """The database was migrated by a newer release of this library."""


class NotStoredError(StoreError):
    """What was asked for is not in the store."""


class QueryError(StoreError):
    """The server refused a statement."""


class RecordRejectedError(QueryError):
    """A record cannot be stored as it is, however often it is offered; the others of its batch can be.

    A :class:`~.records.RecordSink` raises it to have the record found, set aside and listed by
    ``rlm-cachetrack journal dead-letters``. After any other error the whole batch is kept and offered again.
    """


class InternalError(CacheTrackError):
    """Our own code failed where it must not disturb the caller; only tests ever see it raised."""
