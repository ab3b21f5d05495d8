"""PostgreSQL: connections, COPY, migrations, engines. The only package that knows psycopg."""

from .binary_copy import EPOCH_MICROS, NULL, datetime_of_micros, pack_fields, pack_row, pack_rows
from .postgres import PostgresStore
from .session import Session

__all__ = [
    "EPOCH_MICROS",
    "NULL",
    "PostgresStore",
    "Session",
    "datetime_of_micros",
    "pack_fields",
    "pack_row",
    "pack_rows",
]
