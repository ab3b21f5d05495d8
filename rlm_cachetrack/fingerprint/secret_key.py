"""The secret key of an installation, under which prompts are hashed."""

from __future__ import annotations

import contextlib
import os
import secrets
from hashlib import blake2b
from pathlib import Path
from typing import Any

from rlm_cachetrack._process import locked_files

KEY_FILE = "fingerprint.key"
_KEY_BYTES = 32


def installation_key(folder: Path, secret: str | None = None) -> bytes:
    """Return the key of this installation; the first of its processes creates it. Blocks for a file.

    Args:
        folder: The folder that contains the key's file.
        secret: Use the key derived from this text instead, so that several machines have the same key.

    Raises:
        OSError: The file can be neither read nor created, or its content is not a key.
    """
    if secret:
        return blake2b(secret.encode(), digest_size=_KEY_BYTES).digest()
    path = folder / KEY_FILE
    with contextlib.suppress(FileNotFoundError):
        return _read(path)
    locked_files.make_private_folder(folder)
    temporary = folder / f".{KEY_FILE}.{os.getpid()}.{secrets.token_hex(4)}"
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
        with contextlib.suppress(FileExistsError):  # another process was first, and its key is used
            os.link(temporary, path)  # atomic, and never replaces a key
    finally:
        temporary.unlink()
    return _read(path)


def key_facts(folder: Path) -> dict[str, Any]:
    """Describe the key's file without the key. Reads the file, and does not create one.

    Returns:
        ``key`` (the path), ``key_made`` (True if the file exists) and ``key_error`` (why it cannot be used, or None).
    """
    path = folder / KEY_FILE
    made, error = True, None
    try:
        _read(path)
    except FileNotFoundError:
        made = False
    except OSError as exc:
        error = exc.strerror or str(exc)
    return {"key": str(path), "key_made": made, "key_error": error}


def _read(path: Path) -> bytes:
    key = path.read_bytes()
    if len(key) != _KEY_BYTES:
        raise OSError(None, f"expected {_KEY_BYTES} bytes, found {len(key)}; delete it to get a new one")
    return key
