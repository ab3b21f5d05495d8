"""The endpoint that the SDK connects to: it routes a request and replies from the script or by the cache rules."""

from __future__ import annotations

import math
import random
import re
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from email.message import Message
from typing import Self

from .model_output import compose, new_id
from .prompt import Prompt, PromptCache, has_breakpoints, read_prompt
from .request import Json, RejectedError, Reply, SimulatedRequest, compact, get_object, parse_body
from .server import Server
from .wire_format import PIECE_TOKENS, WireResponse, embed, error_body, render, report_usage, sse

_MAX_ENTRIES = 1 << 16  # about 12 MB: 16-byte digests of 8 million cached tokens, no text
_APIS = "chat/completions|completions|responses|embeddings"
_PATH = re.compile(rf"(?:/openai)?(?:/v1)?(?:/deployments/(?P<deployment>[^/]+))?/(?P<api>{_APIS})")
# Other model names are returned unchanged. Source: ``model`` of responses recorded from api.openai.com, 2024-10 to
# 2026-06.
_SNAPSHOTS = {
    **dict.fromkeys(("gpt-5", "gpt-5-mini", "gpt-5-nano"), "2025-08-07"),
    **dict.fromkeys(("gpt-4.1", "gpt-4.1-mini", "gpt-4.1-nano"), "2025-04-14"),
    **dict.fromkeys(("o3", "o4-mini"), "2025-04-16"),
    **{"gpt-5.2": "2025-12-11", "gpt-5.4": "2026-03-05", "gpt-5.5": "2026-04-23"},
    **{"gpt-4o": "2024-08-06", "gpt-4o-mini": "2024-07-18"},
}


class SimulatedEndpoint:
    """A simulated OpenAI endpoint on loopback. A context manager; thread-safe.

    ::

        with SimulatedEndpoint() as endpoint:
            client = OpenAI(base_url=endpoint.base_url, api_key="any")

    Attributes:
        requests: Every request so far, in the order in which the responses began.
        errors: Internal errors of the simulator; the client got status 500.

    Args:
        ttl_s: How long a prefix stays cached after its last use, in seconds (models before GPT-5.6).
        clock: Returns the time that expiry is based on, in seconds.
        seed: Determines the responses, together with the number of the request.
        latency: Delay responses like a model, but for a shorter time: 20 ms, plus 10 µs for every token not read from
            the cache, at most 0.5 s; then 2 ms for each piece of the output (4 tokens). False: no delay.
        port: The port to listen on; 0 picks a free one.
    """

    def __init__(
        self,
        *,
        ttl_s: float = 300.0,
        clock: Callable[[], float] = time.monotonic,
        seed: int = 0,
        latency: bool = True,
        port: int = 0,
    ) -> None:
        self.requests: list[SimulatedRequest] = []
        self.errors: list[BaseException] = []
        self._cache = PromptCache(ttl_s)
        self._clock, self._seed, self._latency, self._port = clock, seed, latency, port
        self._script: deque[Reply] = deque()
        self._lock = threading.Lock()
        self._server: Server | None = None
        self._count = 0

    @property
    def base_url(self) -> str:
        """``http://127.0.0.1:PORT/v1``.

        Raises:
            RuntimeError: The endpoint is not started.
        """
        if self._server is None:
            raise RuntimeError("the simulated endpoint is not started: use it in a with statement, or call start()")
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __repr__(self) -> str:
        where = "not started" if self._server is None else self.base_url
        return f"<SimulatedEndpoint {where}, {len(self.requests)} requests>"

    def start(self) -> None:
        """Start listening on loopback. Connections are accepted when it returns. Does nothing if already started.

        Raises:
            OSError: The port is in use.
        """
        if self._server is None:
            self._server = Server(self._serve, self._record_error, self._port)

    def close(self) -> None:
        """Stop listening, close open connections and end the threads. Blocks for at most 2 s."""
        server, self._server = self._server, None
        if server is not None:
            server.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def script(self, *replies: Reply) -> None:
        """Use these replies for the next requests, one each, in order of arrival. Retries of the SDK count."""
        with self._lock:
            self._script.extend(replies)

    def _serve(self, method: str, path: str, headers: Message, raw: bytes | None) -> WireResponse:
        request = SimulatedRequest(api="unknown", request_id=new_id("req_"), arrived_at=self._clock())
        path = path.partition("?")[0]
        try:
            route = _PATH.fullmatch(path)
            if route is None or method != "POST":
                raise RejectedError(f"Invalid URL ({method} {path})", status=404)
            request = replace(request, api=route["api"].replace("chat/completions", "chat"))
            owner = headers.get("authorization") or headers.get("api-key")
            if not owner:
                raise RejectedError("You didn't provide an API key in an Authorization header.", status=401)
            body = parse_body(raw)
            model, tier = str(body.get("model") or route["deployment"] or ""), body.get("service_tier")
            if not model:
                raise RejectedError("you must provide a model parameter")
            request = replace(
                request,
                model=f"{model}-{_SNAPSHOTS[model]}" if model in _SNAPSHOTS else model,
                stream=body.get("stream") is True,
                include_usage=get_object(body, "stream_options").get("include_usage") is True,
                prompt_cache_key=body.get("prompt_cache_key"),
                service_tier="default" if tier in (None, "auto") else tier,
                retry=int(headers.get("x-stainless-retry-count") or 0),
            )
            return self._reply(request, body, owner)
        except RejectedError as exc:
            return self._reject(request, exc.status, error_body(exc.status, str(exc), exc.param, exc.code))
        except Exception as exc:
            self._record_error(exc)
            return self._reject(request, 500, error_body(500, f"internal error of the simulator: {type(exc).__name__}"))

    def _reject(self, request: SimulatedRequest, status: int, error: Json) -> WireResponse:
        self._record(replace(request, status=status))
        return WireResponse(request.request_id, status, body=compact(error).encode())

    def _reply(self, request: SimulatedRequest, body: Json, owner: str) -> WireResponse:
        with self._lock:
            reply = self._script.popleft() if self._script else Reply()
            rng = random.Random(f"{self._seed}:{self._count}")  # noqa: S311 - reproducible, not secret
            self._count += 1
        if reply.status >= 400 or (reply.error is not None and reply.error_after is None):
            response = self._fail(request, reply)
        elif request.api == "embeddings":
            document, tokens = embed(body, request.model, self._seed)
            self._record(replace(request, prompt_tokens=tokens))
            response = WireResponse(request.request_id, body=compact(document).encode())
        else:
            response = self._generate(request, body, owner, rng, reply)
        response.wait_s += reply.delay_s
        response.cut_after = reply.cut_after
        return response

    def _fail(self, request: SimulatedRequest, reply: Reply) -> WireResponse:
        message, code = reply.error, None
        if reply.param is not None and message is None:
            message, code = f"Unknown parameter: '{reply.param}'.", "unknown_parameter"
        response = self._reject(request, reply.status, error_body(reply.status, message, reply.param, code))
        if (after_s := reply.retry_after_s) is not None:
            after_ms = f"{after_s * 1000:g}"
            response.headers = {"retry-after": str(math.ceil(after_s)), "retry-after-ms": after_ms}
        return response

    def _generate(
        self, request: SimulatedRequest, body: Json, owner: str, rng: random.Random, reply: Reply
    ) -> WireResponse:
        prompt = read_prompt(request.api, body)
        _reject_unsupported(request, body, prompt)
        outputs = [compose(body, request.model, prompt.last_role, rng, reply) for _ in range(body.get("n") or 1)]
        with self._lock:
            cached, written = self._cache.use(owner, request.model, body, prompt, request.arrived_at, reply.cold)
            self._cache.shrink(_MAX_ENTRIES)
        request = replace(
            request,
            prompt_tokens=prompt.tokens,
            cached_tokens=cached,
            cache_write_tokens=written,
            completion_tokens=sum(output.tokens for output in outputs),
            reasoning_tokens=sum(output.reasoning_tokens for output in outputs),
            tool_calls=sum(len(output.calls) for output in outputs),
            segment_tokens=tuple(prompt.segments),
        )
        self._record(request)
        response = render(request, body, outputs, report_usage(request) if reply.usage else None)
        if response.events is not None and reply.error_after is not None:
            error = error_body(500, reply.error)
            failed = sse({"type": "error", **error}, "error") if request.api == "responses" else sse(error)
            response.events = [*response.events[: reply.error_after], failed]
        if self._latency:
            response.gap_s = 0.002
            response.wait_s = min(0.02 + 1e-5 * (prompt.tokens - cached), 0.5)
            if response.events is None:
                response.wait_s += response.gap_s * request.completion_tokens / PIECE_TOKENS
        return response

    def _record_error(self, error: BaseException) -> None:
        self.errors.append(error)

    def _record(self, request: SimulatedRequest) -> None:
        with self._lock:
            self.requests.append(request)


def _reject_unsupported(request: SimulatedRequest, body: Json, prompt: Prompt) -> None:
    if body.get("stream_options") is not None and not request.stream:
        message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        raise RejectedError(message, "stream_options")
    if (previous := body.get("previous_response_id")) is not None:
        message = f"Previous response with id '{previous}' not found."
        raise RejectedError(message, "previous_response_id", "previous_response_not_found")
    if (prompt.marked_ends or body.get("prompt_cache_options")) and not has_breakpoints(request.model):
        message = "Cache breakpoints are not supported with this model."
        raise RejectedError(message, "prompt_cache_options", "unsupported_parameter")
