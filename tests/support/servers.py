"""An embedded PostgreSQL server that only the caller uses, so that it may stop, kill and start it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rlm_cachetrack.store import embedded


@contextmanager
def own_server_folder() -> Iterator[Path]:
    """Yield the data folder of a server that does not run yet; stop the server and delete the folder at the end."""
    # Not pytest's tmp_path: for root it is closed to other users, and PostgreSQL does not run as root.
    folder = Path(tempfile.mkdtemp(prefix="rlmct-", dir="/tmp"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        embedded.stop(folder, timeout_s=300)
        shutil.rmtree(folder, ignore_errors=True)
