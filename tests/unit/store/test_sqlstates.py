"""Errors of the server are classified by SQLSTATE, other errors by the driver's class."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import errors

from rlm_cachetrack.store.sqlstates import Meaning, meaning_of


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (errors.ConnectionFailure, Meaning.UNREACHABLE),
        (errors.AdminShutdown, Meaning.UNREACHABLE),
        (errors.CrashShutdown, Meaning.UNREACHABLE),
        (errors.CannotConnectNow, Meaning.UNREACHABLE),
        (errors.TooManyConnections, Meaning.UNREACHABLE),
        (errors.InvalidPassword, Meaning.UNREACHABLE),
        (errors.InvalidCatalogName, Meaning.UNREACHABLE),
        (errors.InvalidSqlStatementName, Meaning.UNREACHABLE),
        (errors.IdleInTransactionSessionTimeout, Meaning.UNREACHABLE),
        (errors.ReadOnlySqlTransaction, Meaning.READ_ONLY),
        (errors.UndefinedTable, Meaning.SCHEMA),
        (errors.UndefinedColumn, Meaning.SCHEMA),
        (errors.DatatypeMismatch, Meaning.SCHEMA),
        (errors.InvalidSchemaName, Meaning.SCHEMA),
        (errors.UntranslatableCharacter, Meaning.BAD_RECORD),
        (errors.NumericValueOutOfRange, Meaning.BAD_RECORD),
        (errors.NotNullViolation, Meaning.BAD_RECORD),
        (errors.CheckViolation, Meaning.BAD_RECORD),
        (errors.ProgramLimitExceeded, Meaning.BAD_RECORD),
        (errors.RaiseException, Meaning.BAD_RECORD),
        (errors.ExternalRoutineException, Meaning.BAD_RECORD),
        (errors.DiskFull, Meaning.WAIT),
        (errors.OutOfMemory, Meaning.WAIT),
        (errors.SerializationFailure, Meaning.WAIT),
        (errors.DeadlockDetected, Meaning.WAIT),
        (errors.LockNotAvailable, Meaning.WAIT),
        (errors.QueryCanceled, Meaning.WAIT),
        (errors.InsufficientPrivilege, Meaning.WAIT),
        (errors.IoError, Meaning.WAIT),
        (errors.InternalError_, Meaning.WAIT),
    ],
)
def test_an_error_of_the_server_is_classified_by_its_sqlstate(error: type[psycopg.Error], meaning: Meaning) -> None:
    assert meaning_of(error(), error.sqlstate) is meaning


@pytest.mark.parametrize(
    ("sqlstate", "meaning"),
    [("MY001", Meaning.BAD_RECORD), ("60000", Meaning.BAD_RECORD), ("TS200", Meaning.WAIT), ("HV000", Meaning.WAIT)],
)
def test_a_code_that_only_a_trigger_can_raise_means_a_bad_record(sqlstate: str, meaning: Meaning) -> None:
    assert meaning_of(psycopg.Error(), sqlstate) is meaning


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (psycopg.OperationalError, Meaning.UNREACHABLE),
        (psycopg.InterfaceError, Meaning.UNREACHABLE),
        (psycopg.DataError, Meaning.BAD_RECORD),
        (psycopg.ProgrammingError, Meaning.WAIT),
    ],
)
def test_an_error_of_the_driver_is_classified_by_its_class(error: type[psycopg.Error], meaning: Meaning) -> None:
    assert meaning_of(error(), None) is meaning
