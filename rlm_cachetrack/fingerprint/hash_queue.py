"""From a call to its fingerprint: a bounded queue of what was sent, which the writer's thread hashes.

The calling thread appends one entry, before the call's line is in the journal, so that whoever packs the line finds it.
It copies the body but not the list of messages in it: to copy that is to touch each message, and behind a large prompt
takes as long as all the rest. Its length is noted, since what programs do to such a list is to append to it. What was
sent leaves memory as soon as it is hashed: at the latest half a second later, whether the store can be reached or not.
A process that is killed before leaves calls without a fingerprint.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import threading
from collections import deque
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

from rlm_cachetrack._process import guard as _guard

from .delta_codec import Encoder
from .segments import Digests, of_request

__all__ = ["LEAST_TOKENS", "TOKENS_A_MESSAGE", "Fingerprints", "installation_key", "key_facts"]

logger = logging.getLogger("rlm_cachetrack")

_MOST_TOKENS = 2 << 20  # about 8 MB
_MOST_MADE = 20_000
_MOST_RUNS = 4_096
_FILE = "fingerprint.key"
_KEY_BYTES = 32
LEAST_TOKENS = 512  # what a call counts at least: so no more than 4,096 wait
TOKENS_A_MESSAGE = 256  # where the server does not say how many there were
_TURNS = {"chat.completions": "messages"}


class Fingerprints:
    """What was sent, on its way to a column.

    Args:
        folder: Where the secret of this installation is kept; it is made when it is first needed.
        secret: The secret itself, shared by several machines; None: that of the folder.

    Attributes:
        waiting: Number, API, run, body, count of messages and response id of the calls that are not hashed yet.
        room: How many tokens more may wait.
        dropped: Calls that got no fingerprint because too much waited.
    """

    def __init__(self, folder: Path, secret: str | None = None) -> None:
        self.dropped = 0
        self._folder = folder
        self._secret = secret
        self.waiting: deque[tuple[int, str, str, dict[str, Any], int | None, str | None]] = deque()
        self.room = _MOST_TOKENS
        self._lock = threading.Lock()
        self._digests: Digests | None = None
        self._off = False
        self._encoder = Encoder()
        self._runs: dict[str, tuple[str, str]] = {}
        self._made: dict[int, bytes] = {}
        self._offered: dict[int, bytes] = {}
        self._stored: dict[int, bytes] = {}

    # -- the calling thread ----------------------------------------------------------------------------------------

    def add(
        self,
        number: int,
        api: str,
        place: str,
        body: Mapping[str, Any],
        tokens: int | None,
        response_id: str | None,
    ) -> None:
        """Take in what was sent. Looks at no text; drops it where too much waits.

        Args:
            number: The call's.
            api: As in the call's line.
            place: The run, as in the call's line.
            body: What was sent. It is copied; what is in it is not.
            tokens: How large it was, as the server says; None: it does not.
            response_id: The id of the answer.
        """
        turns = body.get(_TURNS.get(api, "input"))
        count = len(turns) if type(turns) is list else None
        if self.room <= 0:
            self.dropped += 1
            return
        self.room -= max(LEAST_TOKENS, TOKENS_A_MESSAGE * (count or 1) if tokens is None else tokens)
        self.waiting.append((number, api, place, dict(body), count, response_id))

    # -- the writer's threads ---------------------------------------------------------------------------------------

    def of(self, number: int) -> bytes | None:
        """The column's bytes for a call; the same again when it is offered again. None: it has none."""
        found = self._offered.get(number) or self._stored.get(number)
        if found is None:
            if number not in self._made and self.waiting:
                self.hash_waiting()
            found = self._made.pop(number, None)
            if found is not None:
                self._offered[number] = found
        return found

    def stored(self) -> None:
        """A batch is stored. What was offered is kept until the next one is, which may be prepared already."""
        self._stored, self._offered = self._offered, {}

    def hash_waiting(self) -> None:
        """Hash what waits. Blocks for that: microseconds a message, and a millisecond a megabyte not seen before."""
        if not self.waiting:
            return
        with self._lock:
            digests = self._ready()
            while self.waiting:
                entry = self.waiting.popleft()
                if digests is None:
                    continue
                if len(self._made) >= _MOST_MADE:
                    self.dropped += 1
                    continue
                with contextlib.suppress(IndexError):
                    self._hash(digests, *entry)
            self.room = _MOST_TOKENS  # what the calling threads add meanwhile is forgotten; the next round counts anew

    def _hash(
        self,
        digests: Digests,
        number: int,
        api: str,
        place: str,
        body: dict[str, Any],
        count: int | None,
        response_id: str | None,
    ) -> None:
        try:
            if count is not None:
                name = _TURNS.get(api, "input")
                turns = body[name]
                if len(turns) < count:
                    raise ValueError("the list of messages was shortened since")
                body[name] = turns[:count]
            fingerprint = of_request(api, body, digests, response_id if api == "responses" else None)
            self._made[number] = self._encoder.encode(self._run(place), number, fingerprint)
        except Exception as exc:  # what no server takes either; the call is recorded all the same
            logger.debug("a prompt has no fingerprint: %s", type(exc).__name__)

    def _run(self, place: str) -> tuple[str, str]:
        run = self._runs.get(place)
        if run is None:
            values = json.loads(place)
            run = (values["query_id"], values["run_id"])
            if len(self._runs) >= _MOST_RUNS:
                self._runs.clear()
            self._runs[place] = run
        return run

    def _ready(self) -> Digests | None:
        if self._digests is None and not self._off:
            try:
                self._digests = Digests(installation_key(self._folder, self._secret))
            except OSError as exc:
                self._off = True
                logger.warning(
                    "calls are recorded without fingerprints, so that misses of the cache cannot be explained: %s: %s",
                    self._folder / _FILE,
                    exc.strerror or exc,
                )
            except Exception as exc:
                self._off = True
                _guard.report("reading the secret of fingerprints", exc)
        return self._digests


def installation_key(folder: Path, secret: str | None = None) -> bytes:
    """The secret of this installation; made, once for all its processes, where there is none.

    Raises:
        OSError: The file can be neither read nor made.
    """
    if secret:
        return blake2b(secret.encode(), digest_size=_KEY_BYTES).digest()
    path = folder / _FILE
    with contextlib.suppress(FileNotFoundError):
        return _read(path)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = folder / f".{_FILE}.{os.getpid()}.{secrets.token_hex(4)}"
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
        with contextlib.suppress(FileExistsError):  # another process was first: its secret is the one
            os.link(temporary, path)  # whole, or not at all
    finally:
        temporary.unlink()
    return _read(path)


def key_facts(folder: Path) -> dict[str, Any]:
    """Where the secret of this installation is kept; not the secret. Reads a file, and makes none.

    Returns:
        ``key`` (the file), ``key_made`` (whether there is one yet) and ``key_error`` (why it cannot be used, or None).
    """
    path = folder / _FILE
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
        raise OSError(None, f"expected {_KEY_BYTES} bytes, found {len(key)}; delete it to have a new one made")
    return key
