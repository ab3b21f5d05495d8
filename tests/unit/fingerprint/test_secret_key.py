"""The secret key of an installation: created once, private, or derived from a shared secret."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rlm_cachetrack.fingerprint.secret_key import installation_key


def test_the_key_is_created_once_and_is_private(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: installation_key(folder), range(32)))
    assert len(keys) == 1
    (file,) = folder.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_bytes() == keys.pop()


def test_a_shared_secret_needs_no_file(tmp_path: Path) -> None:
    assert installation_key(tmp_path, "s" * 16) == installation_key(tmp_path / "other", "s" * 16)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_key_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "fingerprint.key").write_bytes(b"short")
    with pytest.raises(OSError, match="expected 32 bytes, found 5"):
        installation_key(tmp_path)
