"""Connect to PostgreSQL, convert rows, and translate the driver's errors."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC
from typing import Any

import psycopg
from psycopg import conninfo
from psycopg.rows import RowMaker, dict_row
from psycopg.types.json import set_json_dumps
from psycopg.types.numeric import FloatLoader
from psycopg_pool import ConnectionPool

from rlm_cachetrack.config import redact
from rlm_cachetrack.errors import ConfigError, QueryError, RecordRejectedError, StoreError, StoreUnreachableError

from . import named_sql
from .sqlstates import Meaning, meaning_of

POOL_NAME = "rlm_cachetrack"
CONNECT_TIMEOUT_S = 10
# If the server's machine disappears, the connection is not closed. With the system's defaults, a statement would then
# wait for two hours (keepalive) or 15 minutes (unacknowledged data).
# Source: https://www.postgresql.org/docs/18/libpq-connect.html#LIBPQ-KEEPALIVES, read 2026-11-23.
_DEFAULTS: Mapping[str, Any] = {
    "connect_timeout": CONNECT_TIMEOUT_S,
    "application_name": "rlm_cachetrack",
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
_READ_ONLY_HINT = "if it is not a standby, default_transaction_read_only is on for the server, the database or the role"
_HINTS = {
    "session is read-only": _READ_ONLY_HINT,
    "statement pooling mode": "a batch is one transaction: set pool_mode to transaction or session",
}
_MOMENTS = frozenset(psycopg.adapters.types[name].oid for name in ("timestamptz", "timestamp"))


class SchemaError(QueryError):
    """A table or column differs from what this release creates; another migration may repair it."""


def connect(url: str, *, writes: bool = False) -> psycopg.Connection[Any]:
    """Open a connection in autocommit mode. Blocks for up to 10 s, unless the URL sets another timeout.

    Args:
        url: libpq URL or connection string.
        writes: If the address names several hosts, connect to one that accepts writes.
    """
    connection = psycopg.connect(url, **_arguments(url, writes=writes))
    try:
        _configure(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def make_pool(url: str, size: int) -> ConnectionPool[psycopg.Connection[dict[str, Any]]]:
    """Make a pool of at most ``size`` connections for reads, whose rows are :func:`dict_rows`. Does not block."""
    return ConnectionPool(
        url,
        min_size=0,
        max_size=size,
        kwargs={"row_factory": dict_rows, **_arguments(url)},
        configure=_configure,
        check=ConnectionPool.check_connection,
        name=POOL_NAME,
        open=True,
    )


def _configure(connection: psycopg.Connection[Any]) -> None:
    set_json_dumps(_json_text, connection)
    connection.adapters.register_loader("numeric", FloatLoader)  # only legacy tables have NUMERIC columns
    pin_settings(connection, is_local=False)


def pin_settings(connection: psycopg.Connection[Any] | psycopg.Cursor[Any], *, is_local: bool) -> None:
    """Set the settings that we depend on: for the connection, or only for its current transaction. Blocks."""
    connection.execute(named_sql.query("pin_settings"), {"is_local": is_local})


def _json_text(value: Any) -> str:
    # The JSON of calls is encoded already; the metadata of a run is a mapping. Not ASCII: a database whose encoding is
    # SQL_ASCII accepts text of UTF-8, but no escapes of JSON.
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)


def _arguments(url: str, *, writes: bool = False) -> dict[str, Any]:
    given = conninfo.conninfo_to_dict(url)
    arguments: dict[str, Any] = {name: value for name, value in _DEFAULTS.items() if name not in given}
    arguments["autocommit"] = True
    # Behind a pooler, the next transaction may run on a server connection that does not know the prepared statement.
    arguments["prepare_threshold"] = None
    # COPY sends UTF-8, whatever PGCLIENTENCODING is; and psycopg returns text of an SQL_ASCII database as bytes.
    arguments["client_encoding"] = "UTF8"
    is_chosen = "target_session_attrs" in given or "PGTARGETSESSIONATTRS" in os.environ
    if not is_chosen and (writes or "," in str(given.get("host", ""))):
        # If the address names several servers, use the primary for reads too: they must return what was written, and
        # the first connection may have to migrate the schema.
        arguments["target_session_attrs"] = "read-write"
    return arguments


def dict_rows(cursor: psycopg.Cursor[Any]) -> RowMaker[dict[str, Any]]:
    """Return rows as dicts with timestamps in UTC; a psycopg row factory."""
    make = dict_row(cursor)
    moments = [column.name for column in cursor.description or () if column.type_code in _MOMENTS]
    if not moments:
        return make

    def in_utc(values: Sequence[Any]) -> dict[str, Any]:
        row = make(values)
        for name in moments:
            if (moment := row[name]) is not None:
                row[name] = moment.astimezone(UTC)
        return row

    return in_utc


@contextlib.contextmanager
def translated_errors(url: str, *, is_first_connection: bool) -> Iterator[None]:
    """Translate errors of the driver and its pool to those of :mod:`~.errors`, with the original as cause.

    Args:
        url: Address of the server, for messages; its password is removed.
        is_first_connection: ``url`` was not used yet, so libpq may not be able to parse it.

    Raises:
        ConfigError: libpq cannot parse the address.
        StoreUnreachableError: The server cannot be reached, or is read-only.
        RecordRejectedError: The server rejected a value of a record.
        QueryError: The server rejected the statement for another reason.
    """
    try:
        yield
    except psycopg.Error as exc:
        if is_first_connection and isinstance(exc, psycopg.ProgrammingError) and exc.sqlstate is None:
            # Without the cause: libpq quotes a part of the address, which may be the password.
            raise ConfigError(f"the database address is not usable: {_parse_error(str(exc))}") from None
        raise _translate(exc, redact(url)) from _without_password(exc)


def _translate(exc: psycopg.Error, address: str) -> StoreError:
    summary = _summary(exc)
    state = exc.sqlstate
    meaning = meaning_of(exc, state)
    if meaning is Meaning.UNREACHABLE:
        hints = [f"; {hint}" for text, hint in _HINTS.items() if text in summary]
        return StoreUnreachableError(f"cannot reach {address}: {summary}{''.join(hints)}")
    if meaning is Meaning.READ_ONLY:
        return StoreUnreachableError(f"{address} is read-only now: {summary}; {_READ_ONLY_HINT}")
    if state is not None and state.startswith("23"):
        summary = redact(exc.diag.message_primary or summary)  # the detail has the whole row, which logs must not show
    message = f"{address} rejected a statement: {summary}" + (f" (SQLSTATE {state})" if state else "")
    if meaning is Meaning.BAD_RECORD:
        return RecordRejectedError(message)
    return SchemaError(message) if meaning is Meaning.SCHEMA else QueryError(message)


def _summary(exc: psycopg.Error) -> str:
    """Return the first three lines of an error's text, without a password."""
    lines = redact(str(exc)).strip().splitlines()[:3]
    summary = "; ".join(line.strip() for line in lines) or type(exc).__name__
    if isinstance(exc, psycopg.errors.InsufficientPrivilege):
        summary += (
            " (with the roles of schema/roles.sql, a reader can read and a writer can record; only the owner can"
            " delete, re-price, and set budgets and policies)"
        )
    return summary


_PARSE_ERRORS = {
    'missing "="': 'a "=" is missing',
    "unterminated quoted": "a quoted value has no end",
    "percent-encoded": 'a "%" is not followed by two hexadecimal digits; write the character itself as %25',
    "integer value": "a numeric parameter, such as the port, is not a number",
    "URI query parameter": "it has a parameter that libpq does not know",
    "connection option": "it has an option that libpq does not know",
    "IPv6": "the end of an IPv6 address is missing",
    "key/value separator": 'a parameter needs one "="',
}


def _parse_error(text: str) -> str:
    """Return why libpq cannot read an address, without quoting any part of it."""
    return next((reason for part, reason in _PARSE_ERRORS.items() if part in text), "libpq cannot read it")


def _without_password(exc: Exception) -> Exception:
    text = str(exc)
    return exc if redact(text) == text else type(exc)(redact(text))
