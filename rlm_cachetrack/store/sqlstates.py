"""What an error of the server means for the records that were offered: whose fault it is, and what may mend it.

The judgement rests on the SQLSTATE, not on the driver's classes: psycopg counts a full disk, a deadlock and a lost
connection alike as operational errors.

Source: https://www.postgresql.org/docs/18/errcodes-appendix.html, read 2026-11-23.
"""

from __future__ import annotations

import enum

import psycopg

__all__ = ["Meaning", "meaning_of"]


class Meaning(enum.Enum):
    """What to do about an error."""

    UNREACHABLE = "connect anew"
    READ_ONLY = "connect anew: the server was demoted, its successor is elsewhere"
    SCHEMA = "look at the schema anew, migrate, and offer the batch again"
    BAD_RECORD = "find the record and set it aside"
    WAIT = "offer the batch again later"


_READ_ONLY = "25006"
_PERMISSION = "42501"  # in class 42, but no look at the schema mends it; also what row-level security says

# Ends the session, or says that it cannot go on in it. 25P: a time limit of transactions ended it. 26000: a prepared
# statement is gone, as behind a pooler that was restarted. 53300: too many connections. 57P: the server stops, crashed,
# is not up yet, or ended an idle session.
_SESSION = ("08", "25", "26", "28", "3D", "53300", "57P")
# 3F: no such schema. 42: no such table or column, or one of another type.
_SCHEMA = ("3F", "42")
# 22: data exception. 23: a constraint. 44: WITH CHECK OPTION. 54: larger than an index row, a JSONB or the stack can
# hold. P0, 09, 27, 38, 39: a trigger raised it, in PL/pgSQL or another language. 21: a subquery of a trigger or a rule
# gave more rows than one.
_RECORD = ("09", "21", "22", "23", "27", "38", "39", "44", "54", "P0")
# A trigger may also raise a code of its own, which the SQL standard lets begin with 5 to 9 or I to Z. Those are not its
# own: PostgreSQL's classes among them, and TimescaleDB's.
_NOT_OWN = ("53", "54", "55", "57", "58", "72", "P0", "XX", "TS")


def meaning_of(exc: psycopg.Error, sqlstate: str | None) -> Meaning:
    """Judge an error.

    Args:
        exc: As the driver raised it.
        sqlstate: Its SQLSTATE; None where the error did not come from the server.

    Returns:
        What it means. Of what nobody foresaw: :attr:`Meaning.WAIT`, so that no record is given up by mistake. That is
        also what a full disk (53100), no memory (53200), a deadlock or a serialization failure (40), a lock or
        statement that took too long (55P03, 57014), and a missing permission (42501) mean.
    """
    if sqlstate is None:
        # Without a word of the server: the driver could not encode a value, or the connection is gone.
        return Meaning.BAD_RECORD if isinstance(exc, psycopg.DataError) else _without_state(exc)
    if sqlstate == _READ_ONLY:
        return Meaning.READ_ONLY
    if sqlstate == _PERMISSION:
        return Meaning.WAIT
    for beginnings, meaning in (
        (_SESSION, Meaning.UNREACHABLE),
        (_SCHEMA, Meaning.SCHEMA),
        (_RECORD, Meaning.BAD_RECORD),
    ):
        if sqlstate.startswith(beginnings):
            return meaning
    own = sqlstate[0] in "56789IJKLMNOPQRSTUVWXYZ" and not sqlstate.startswith(_NOT_OWN)
    return Meaning.BAD_RECORD if own else Meaning.WAIT


def _without_state(exc: psycopg.Error) -> Meaning:
    lost = isinstance(exc, (psycopg.OperationalError, psycopg.InterfaceError))
    return Meaning.UNREACHABLE if lost else Meaning.WAIT
