"""A bounded queue of request bodies, which the writer thread hashes.

The calling thread adds a body before the call's event is in the journal, so that the writer finds it when it packs the
event. It copies the body but not its list of messages, because copying a long list takes as long as all other work; it
stores the list's length, since programs append to such a list. A body leaves memory as soon as it is hashed: at the
latest half a second later, whether or not the store can be reached. Calls of a process that is killed before that have
no fingerprint, and of their request options only those that affect price or cache.
"""

from __future__ import annotations

import json
import logging
import threading
from collections import deque
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from rlm_cachetrack._process import guard
from rlm_cachetrack.usage import read_request_options

from .delta_codec import Encoder
from .secret_key import KEY_FILE, installation_key
from .segments import Digests, fingerprint_request

logger = logging.getLogger("rlm_cachetrack")

_MAX_WAITING_TOKENS = 2 << 20  # about 8 MB
_MIN_CALL_TOKENS = 512  # the smallest size of a call in the queue, so that at most 4,096 calls wait
_ESTIMATED_MESSAGE_TOKENS = 256  # if the server reports no token count
_MAX_HASHED = 20_000


_Request = tuple[int, str, str, dict[str, Any], int | None, str | None]  # the arguments of `Fingerprints.add`


class HashedRequest(NamedTuple):
    """The result of hashing a request body: the bytes of the column, and the options that affect price or cache."""

    fingerprint: bytes
    options: dict[str, Any] | None


class Fingerprints:
    """The fingerprints of a process's calls, from the request to the column.

    Args:
        folder: The folder that contains the key of this installation; the key is created when it is first needed.
        secret: A secret that several machines share, in place of that key.

    Attributes:
        dropped: The number of calls without a fingerprint because the queue was full.
    """

    def __init__(self, folder: Path, secret: str | None = None) -> None:
        self.dropped = 0
        self._folder = folder
        self._secret = secret
        self._waiting: deque[_Request] = deque()
        self._room = _MAX_WAITING_TOKENS
        self._lock = threading.Lock()
        self._digests: Digests | None = None
        self._is_off = False
        self._encoder = Encoder()
        # By call number: hashed, passed to the current batch, and passed to the previous batch.
        self._hashed: dict[int, HashedRequest] = {}
        self._given: dict[int, HashedRequest] = {}
        self._given_before: dict[int, HashedRequest] = {}

    # -- the calling thread ----------------------------------------------------------------------------------------

    def add(
        self,
        number: int,
        api: str,
        run_context: str,
        body: Mapping[str, Any],
        turn_count: int | None,
        tokens: int | None,
        response_id: str | None,
    ) -> None:
        """Queue a request body, or drop it if the queue is full. Does not read the text and does not block.

        Args:
            number: The call's number.
            api: The API, as in the call's event.
            run_context: The run, as in the call's event.
            body: The request. A shallow copy is queued.
            turn_count: The number of messages or items in the request; None if it has none.
            tokens: The prompt's size as the server reported it; None if not reported.
            response_id: The id of the response.
        """
        room = self._room
        if room <= 0:
            self.dropped += 1
            return
        if tokens is None:
            tokens = _ESTIMATED_MESSAGE_TOKENS * (turn_count or 1)
        self._room = room - (tokens if tokens > _MIN_CALL_TOKENS else _MIN_CALL_TOKENS)
        self._waiting.append((number, api, run_context, {**body}, turn_count, response_id))

    # -- the writer's threads ---------------------------------------------------------------------------------------

    def get(self, number: int) -> HashedRequest | None:
        """Return the hashed request of a call; None if it has none. Hashes the waiting bodies if necessary.

        Another attempt to store the call gets the same result, until :meth:`discard_stored`.
        """
        found = self._given.get(number) or self._given_before.get(number)
        if found is None:
            if number not in self._hashed and self._waiting:
                self.hash_waiting()
            found = self._hashed.pop(number, None)
            if found is not None:
                self._given[number] = found
        return found

    def discard_stored(self) -> None:
        """Discard the fingerprints of a stored batch, but keep those of the next, which may be prepared already."""
        self._given_before, self._given = self._given, {}

    def hash_waiting(self) -> None:
        """Hash the waiting bodies. Blocks for microseconds per message, and a millisecond per megabyte of new text."""
        if not self._waiting:
            return
        with self._lock:
            digests = self._load_key()
            while self._waiting:
                request = self._waiting.popleft()
                if digests is None:
                    continue
                if len(self._hashed) >= _MAX_HASHED:
                    self.dropped += 1
                    continue
                self._hash(digests, request)
            self._room = _MAX_WAITING_TOKENS  # a simultaneous add() is not counted; the next round corrects this

    def _hash(self, digests: Digests, request: _Request) -> None:
        number, api, run_context, body, turn_count, response_id = request
        try:
            field = "messages" if api == "chat.completions" else "input"
            turns = body.get(field)
            if type(turns) is list and turn_count is not None:
                if len(turns) < turn_count:
                    raise ValueError("the program shortened the list of messages after the call")
                body[field] = turns[:turn_count]
            fingerprint = fingerprint_request(api, body, digests, response_id if api == "responses" else None)
            options = read_request_options(body, digests.of_format, marked=fingerprint.has_breakpoint)
            encoded = self._encoder.encode(_run_of(run_context), number, fingerprint)
            self._hashed[number] = HashedRequest(encoded, options or None)
        except Exception as exc:  # a body that no server accepts; the call is recorded without a fingerprint
            logger.debug("a prompt has no fingerprint: %s", type(exc).__name__)

    def _load_key(self) -> Digests | None:
        if self._digests is None and not self._is_off:
            try:
                self._digests = Digests(installation_key(self._folder, self._secret))
            except OSError as exc:
                self._is_off = True
                logger.warning(
                    "calls are recorded without fingerprints, so cache misses cannot be explained: %s: %s",
                    self._folder / KEY_FILE,
                    exc.strerror or exc,
                )
            except Exception as exc:
                self._is_off = True
                guard.report("reading the fingerprint key", exc)
        return self._digests


@lru_cache(maxsize=4096)
def _run_of(run_context: str) -> tuple[str, str]:
    """Return the query and run of a run context, without the values that differ between calls of a run."""
    values = json.loads(run_context)
    return values["query_id"], values["run_id"]
