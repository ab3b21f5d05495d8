"""The exceptions of this library, with one base class.

::

    CacheTrackError
    ├── ConfigError              an argument or a setting is wrong               (also a ValueError)
    │   └── PricingError         a pricing file: where, which key, what was expected
    ├── PriceListError           a price list that was fetched: not readable, wrong format, not plausible
    ├── RecordError              a hand-made record contradicts itself           (also a ValueError)
    ├── StoreError               the database
    │   ├── StoreUnreachableError    no connection: address, network, credentials
    │   │   └── EmbeddedError        the embedded PostgreSQL is missing or does not start
    │   ├── MigrationError           the schema cannot be brought up to date
    │   │   └── SchemaTooNewError    the database was migrated by a newer release
    │   ├── NotStoredError           a run or a call is not in the store
    │   └── QueryError               the server rejected a statement
    │       └── RecordRejectedError       for the content of a record; the others can be stored
    └── InternalError            a defect of this library; raised only in tests, counted elsewhere

    CacheBustWarning             a call broke a cached prefix                    (the category of a log record)

No message contains a password: addresses pass through :func:`~.config.redact`.
"""

from __future__ import annotations

__all__ = [
    "CacheBustWarning",
    "CacheTrackError",
    "ConfigError",
    "EmbeddedError",
    "InternalError",
    "MigrationError",
    "NotStoredError",
    "PriceListError",
    "PricingError",
    "QueryError",
    "RecordError",
    "RecordRejectedError",
    "SchemaTooNewError",
    "StoreError",
    "StoreUnreachableError",
]


_MAX_SHOWN = 120


def safe_repr(value: object) -> str:
    """Return a short ``repr`` of a value for a message; its type if the caller's ``__repr__`` raises."""
    try:
        text = repr(value)
    except Exception:
        return f"<{type(value).__name__}>"
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 1]}…"


class CacheTrackError(Exception):
    """The base class of every exception of this library."""


class ConfigError(CacheTrackError, ValueError):
    """An argument, an environment variable or a settings file is wrong."""


class PricingError(ConfigError):
    """A pricing file cannot be used; the message names file, line, key and what was expected."""


class PriceListError(CacheTrackError):
    """A price list that was fetched cannot be used; the message names its address or file, and the reason."""


class RecordError(CacheTrackError, ValueError):
    """A manually created record is inconsistent (negative tokens, more cached than prompt tokens, …)."""


class StoreError(CacheTrackError):
    """The database failed; ``__cause__`` is the driver's error."""


class StoreUnreachableError(StoreError):
    """The database cannot be reached."""


class EmbeddedError(StoreUnreachableError):
    """The embedded PostgreSQL is not installed, or did not start."""


class MigrationError(StoreError):
    """The schema could not be brought up to date; nothing was changed."""


class SchemaTooNewError(MigrationError):
    """The database was migrated by a newer release of this library."""


class NotStoredError(StoreError):
    """The requested run or call is not in the store."""


class QueryError(StoreError):
    """The server rejected a statement."""


class RecordRejectedError(QueryError):
    """A record of the batch can never be stored; the others can.

    If a :class:`~.records.RecordSink` raises it, the writer finds the record and makes it a dead letter, which
    ``rlm-cachetrack journal dead-letters`` lists. After any other error the whole batch is kept and retried.
    """


class InternalError(CacheTrackError):
    """An internal failure, which must not disturb the caller's program; raised only in tests."""


class CacheBustWarning(UserWarning):
    """The ``category`` of the log record for a call that broke a prefix which its run had cached."""
