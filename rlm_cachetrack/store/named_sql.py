"""Read the SQL of ``schema/``: next to the package in a checkout, inside the package in a wheel.

A query file begins with a header of comments (parameters, result columns, units) and holds one statement. SQL that
several queries or migrations share is in ``queries/fragments/`` and is included by a comment::

    100 * -- include: fragments/cache_hit_rate.sql AS cache_savings_percentage,

The fragment, without its header, replaces the comment up to the file name; the rest of the line is kept.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from rlm_cachetrack.errors import CacheTrackError

_NAME = re.compile(r"^(\d{4})_([a-z0-9_]+)\.sql$")
# Comments, strings and quoted names, in which a semicolon does not end a statement, and the semicolon that ends one.
_TOKEN = re.compile(r"--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|\"[^\"]*\"|(\$\w*\$).*?\1|;", re.DOTALL)
_COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/|\s+", re.DOTALL)
_NEEDS = re.compile(r"^-- Needs:\s*(.+)$", re.MULTILINE)
_INCLUDE = re.compile(r"^( *)(.*)-- include: (fragments/\w+\.sql)", re.MULTILINE)
_HEADER = re.compile(r"(?:--.*\n)*")


@dataclass(frozen=True, slots=True)
class Script:
    """One migration file: of every engine (``core``), of one engine, or of ``upgrade`` (legacy tables)."""

    engine: str
    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """Return the SHA-256 of the text. Released files never change, so another value means an edited file."""
        return hashlib.sha256(self.sql.encode()).hexdigest()

    @property
    def statements(self) -> list[str]:
        """Return the statements, to be sent one by one: Citus forwards the text of a command to its workers."""
        found, start = [], 0
        for token in _TOKEN.finditer(self.sql):
            if token[0] == ";":
                found.append(self.sql[start : token.end()].strip())
                start = token.end()
        rest = self.sql[start:].strip()
        return [*found, rest] if _COMMENT.sub("", rest) else found

    @property
    def label(self) -> str:
        """Return the engine, number and name, for messages."""
        return f"{self.engine}/{self.version:04d}_{self.name}"

    @property
    def needs_community_licence(self) -> bool:
        """Return True if the Apache edition of TimescaleDB cannot run the script."""
        found = _NEEDS.search(self.sql)
        return found is not None and "community" in found[1]


@cache
def schema_dir() -> Path:
    """Return the folder with ``migrations/``, the folders of the engines, and ``queries/``.

    Raises:
        CacheTrackError: The installation is broken.
    """
    here = Path(__file__).resolve().parent.parent
    for candidate in (here / "_schema", here.parent / "schema"):
        if (candidate / "migrations").is_dir():
            return candidate
    raise CacheTrackError(f"the SQL files are missing next to {here}: reinstall rlm-cachetrack")


@cache
def query(name: str) -> str:
    """Return the text of ``schema/queries/<name>.sql``, with its includes replaced by the fragments."""
    return _text(schema_dir() / "queries" / f"{name}.sql")


def _text(path: Path) -> str:
    return _INCLUDE.sub(_included, path.read_text(encoding="utf-8"))


def _included(line: re.Match[str]) -> str:
    indent, before, file = line.groups()
    body = _HEADER.sub("", _text(schema_dir() / "queries" / file), count=1).rstrip()
    return indent + before + body.replace("\n", f"\n{indent}")


@cache
def scripts(engine: str) -> tuple[Script, ...]:
    """Return the migrations of an engine, in order."""
    folder = schema_dir() / ("migrations" if engine == "core" else engine)
    found = []
    for path in sorted(folder.glob("*.sql")) if folder.is_dir() else []:
        match = _NAME.match(path.name)
        if match is None:
            raise CacheTrackError(f"{path.name}: expected NNNN_name.sql")
        found.append(Script(engine, int(match[1]), match[2], _text(path)))
    return tuple(found)
