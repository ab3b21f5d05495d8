"""``export`` and ``import``: write calls to a file, and store the calls of files."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from rlm_cachetrack.errors import ConfigError
from rlm_cachetrack.formatting import clean, number

from .arguments import AsJson, DbUrl, argument, open_client, option, parse_moment
from .filters import filtered
from .output import counted, print_json, print_prose, slow_status, stderr, stdout

if TYPE_CHECKING:
    from rlm_cachetrack.analytics import CallFilters
    from rlm_cachetrack.transfer import Imported

_SHOWN_REASONS = 10
_SUFFIXES = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}


@filtered()
def export(
    filters: CallFilters,
    form: Annotated[
        str | None,
        typer.Option(
            "--format", "-f", metavar="FORMAT", help="csv, jsonl or parquet. Default: by the file's suffix, else jsonl."
        ),
    ] = None,
    output: Annotated[Path | None, option("--output", "-o", metavar="FILE", help="Default: stdout.")] = None,
    db_url: DbUrl = None,
) -> None:
    """Write calls to a file or to stdout, oldest first."""
    from rlm_cachetrack import transfer

    chosen = form or (_SUFFIXES.get(output.suffix.lower(), "jsonl") if output else "jsonl")
    if chosen not in transfer.FORMATS:
        raise ConfigError(f"--format {chosen!r}: expected one of {', '.join(transfer.FORMATS)}")
    if output is None and chosen == "parquet":
        raise ConfigError("--format parquet is not text: give --output FILE")
    with open_client(db_url) as client:
        store = client.reader()
        total = transfer.count_exported(store, **filters) if sys.stderr.isatty() else 0
        with _output(output) as file, _bar("exporting", total) as advance:
            written = transfer.export_calls(store, file, chosen, progress=advance, **filters)
    if output is not None:
        print_prose(stderr(), f"Wrote {counted(written, 'call')} to {clean(output)}.")


def import_(
    files: Annotated[
        list[Path] | None, argument(metavar="FILE", help="JSON lines, JSON, CSV or Parquet, also with .gz.")
    ] = None,
    agent: Annotated[
        str | None,
        option("--from", metavar="PROGRAM", help="Read the sessions of codex or claude-code; FILE may be a folder."),
    ] = None,
    query: Annotated[
        str | None,
        option("--query", metavar="QUERY_ID", help="The query of calls without one. Default: the file's name."),
    ] = None,
    run: Annotated[
        str | None,
        option("--run", metavar="WHEN", help="The run of calls without one. Default: the time of the first such call."),
    ] = None,
    rejects: Annotated[
        Path | None, option("--rejects", metavar="FOLDER", help="The folder for FILE.rejected. Default: FILE's folder.")
    ] = None,
    as_json: AsJson = False,
    db_url: DbUrl = None,
) -> None:
    """Store the calls of files: exports of this tool, OpenAI responses, Batch output files, LiteLLM spend logs.

    Calls that are already stored are skipped, so a file can be imported again. Lines that cannot be imported are
    reported with their numbers and written to FILE.rejected, which can be corrected and imported; the exit code is then
    1. Prompts are not stored.
    """
    from rlm_cachetrack import transfer

    if agent is not None:
        _import_sessions(agent, files or [None], query, as_json, db_url)
        return
    if not files:
        raise ConfigError("FILE: name a file, or a program with --from")
    if missing := [path for path in files if not path.is_file()]:
        raise ConfigError(f"{missing[0]} does not exist or is not a file")
    run_id = parse_moment(run, "--run")
    results: list[tuple[Path, Imported]] = []
    with open_client(db_url) as client:
        for path in files:
            folder = None if rejects is None else rejects / f"{path.name}.rejected"
            with _bar(f"importing {clean(path.name)}", path.stat().st_size, quiet=as_json) as advance:
                result = transfer.import_file(
                    client.runtime, path, query_id=query, run_id=run_id, reject_file=folder, progress=advance
                )
            results.append((path, result))
            if not as_json:
                _print_result(path, result)
    if as_json:
        print_json([_facts(path, result) for path, result in results])
    if any(result.rejected for _, result in results):
        raise typer.Exit(1)


def _import_sessions(
    agent: str, paths: Sequence[Path | None], query: str | None, as_json: bool, db_url: str | None
) -> None:
    from rlm_cachetrack import transfer

    if agent not in transfer.AGENTS:
        raise ConfigError(f"--from {agent!r}: expected {' or '.join(transfer.AGENTS)}")
    with open_client(db_url) as client, slow_status("reading the sessions"):
        results = [
            each
            for path in paths
            for each in transfer.import_sessions(client.runtime, agent, path, query_id=query)  # type: ignore[arg-type]
        ]
    if as_json:
        print_json([_facts(path, result) for path, result in results])
        return
    read, added = (sum(getattr(result, name) for _, result in results) for name in ("read", "added"))
    known = f", {number(read - added)} already stored" if read > added else ""
    stdout().print(f"{counted(len(results), 'session')}: {counted(added, 'new call')}{known}.")


def _print_result(path: Path, result: Imported) -> None:
    already = result.stored - result.added
    known = f", {number(already)} already stored" if already else ""
    stdout().print(f"{clean(path)}: {counted(result.added, 'new call')}{known}.")
    if not result.rejected:
        return
    errors = stderr()
    for line, reason in result.reasons[:_SHOWN_REASONS]:
        print_prose(errors, f"{clean(path)}:{line}: {clean(reason)}")
    more = result.rejected - min(result.rejected, _SHOWN_REASONS)
    print_prose(
        errors,
        f"{f'… and {number(more)} more. ' if more else ''}{counted(result.rejected, 'line')} not imported: "
        f"see {clean(result.reject_file)}",
    )


def _facts(path: Path, result: Imported) -> dict[str, Any]:
    return {
        "file": str(path),
        "read": result.read,
        "stored": result.stored,
        "added": result.added,
        "rejected": result.rejected,
        "reasons": [{"line": line, "reason": reason} for line, reason in result.reasons],
        "reject_file": None if result.reject_file is None else str(result.reject_file),
    }


@contextlib.contextmanager
def _output(path: Path | None) -> Iterator[BinaryIO]:
    """Open stdout, a device or pipe, or a temporary file that becomes the file when it is complete."""
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = path.resolve()  # a symbolic link is kept
    try:
        if path.exists() and not path.is_file():
            with path.open("wb") as file:
                yield file
            return
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as exc:
        raise ConfigError(f"--output {path}: {exc.strerror}") from exc
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        mask = os.umask(0)
        os.umask(mask)
        Path(name).chmod(0o666 & ~mask)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _bar(words: str, total: int, *, quiet: bool = False) -> Iterator[Callable[[int], object]]:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=stderr(), transient=True, disable=quiet or not sys.stderr.isatty()) as progress:
        task = progress.add_task(words, total=total or None)
        yield lambda done: progress.update(task, completed=done)
