"""Classify the server's errors by the reaction that they need.

The SQLSTATE is used, not the driver's exception class: psycopg raises OperationalError for a full disk, a deadlock and
a lost connection.

Source: https://www.postgresql.org/docs/18/errcodes-appendix.html, read 2026-11-23.
"""

from __future__ import annotations

import enum

import psycopg


class Meaning(enum.Enum):
    """The reaction to an error."""

    UNREACHABLE = "reconnect"
    READ_ONLY = "reconnect: this server was demoted"
    SCHEMA = "check and migrate the schema, then retry the batch"
    BAD_RECORD = "find the record and write it to the dead letters"
    WAIT = "retry the batch later"


_READ_ONLY = "25006"
_PERMISSION = "42501"  # in class 42, but no migration resolves it; row-level security raises it too

# The session ended or cannot continue. 25P: a transaction timeout ended it. 26000: a prepared statement is unknown, as
# behind a pooler that was restarted. 53300: too many connections. 57P: the server is stopping, crashed, is starting, or
# ended an idle session.
_SESSION = ("08", "25", "26", "28", "3D", "53300", "57P")
# 3F: the schema does not exist. 42: a table or column does not exist or has another type.
_SCHEMA = ("3F", "42")
# 0A: not supported, for example a conversion to the encoding of the database, or a call of a chunk that takes no more
# rows. 20, 2F: raised by a trigger without a matching CASE, or that modifies what it may not.
# 22: data exception. 23: a constraint. 44: WITH CHECK OPTION. 54: too large for an index row, a JSONB or the stack.
# P0, 09, 27, 38, 39: raised by a trigger, in PL/pgSQL or another language. 21: a subquery of a trigger or rule returned
# more than one row.
_RECORD = ("09", "0A", "20", "21", "22", "23", "27", "2F", "38", "39", "44", "54", "P0")
# A trigger may also raise a custom code, which by the SQL standard begins with 5 to 9 or I to Z. The codes of these
# classes do too, but PostgreSQL and TimescaleDB use them.
_RESERVED = ("53", "54", "55", "57", "58", "72", "P0", "XX", "TS")


def meaning_of(exc: psycopg.Error, sqlstate: str | None) -> Meaning:
    """Classify an error.

    Args:
        exc: The error that the driver raised.
        sqlstate: Its SQLSTATE; None if the error did not come from the server.

    Returns:
        Its meaning. Unknown codes are :attr:`Meaning.WAIT`, so that no record is given up by mistake. So are a full
        disk (53100), no memory (53200), a deadlock or serialization failure (40), a timeout of a lock or statement
        (55P03, 57014), and a missing permission (42501).
    """
    if sqlstate is None:
        # The driver could not encode a value, or the connection was lost.
        return Meaning.BAD_RECORD if isinstance(exc, psycopg.DataError) else _without_state(exc)
    if sqlstate == _READ_ONLY:
        return Meaning.READ_ONLY
    if sqlstate == _PERMISSION:
        return Meaning.WAIT
    for prefixes, meaning in (
        (_SESSION, Meaning.UNREACHABLE),
        (_SCHEMA, Meaning.SCHEMA),
        (_RECORD, Meaning.BAD_RECORD),
    ):
        if sqlstate.startswith(prefixes):
            return meaning
    is_of_trigger = sqlstate[0] in "56789IJKLMNOPQRSTUVWXYZ" and not sqlstate.startswith(_RESERVED)
    return Meaning.BAD_RECORD if is_of_trigger else Meaning.WAIT


def _without_state(exc: psycopg.Error) -> Meaning:
    lost = isinstance(exc, (psycopg.OperationalError, psycopg.InterfaceError))
    return Meaning.UNREACHABLE if lost else Meaning.WAIT
