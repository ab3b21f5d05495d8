"""What goes over the wire: answers, usage and errors as OpenAI's bodies and events of a stream."""

from __future__ import annotations

import base64
import math
import random
import time
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field

from .model_output import Answer, new_id
from .prompt import TOKEN_CHARS
from .request import Json, RefusedError, SimulatedRequest, compact, get_array

__all__ = ["PIECE_TOKENS", "Outcome", "embed", "error_body", "render", "report_usage", "sse"]

PIECE_TOKENS = 4  # tokens of the answer in one event of a stream
_ERRORS = {  # status: type, code, message
    400: ("invalid_request_error", None, "Invalid request."),
    401: ("invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    404: ("invalid_request_error", "model_not_found", "The model does not exist or you cannot use it."),
    429: ("requests", "rate_limit_exceeded", "Rate limit reached."),
}
_SERVER_ERROR = ("server_error", None, "The server had an error while processing your request.")


@dataclass(slots=True)
class Outcome:
    """What goes over the wire: a body, or the events of a stream."""

    request_id: str
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    events: list[bytes] | None = None
    wait_s: float = 0.0
    gap_s: float = 0.0
    cut_after: int | None = None


def render(known: SimulatedRequest, body: Json, answers: list[Answer], usage: Json | None) -> Outcome:
    """A body, or the events of a stream where one was asked for."""
    prefix = {"chat": "chatcmpl-", "responses": "resp_"}.get(known.api, "cmpl-")
    head: Json = {"id": new_id(prefix), "model": known.model, "service_tier": known.service_tier}
    if known.api == "responses":
        document = _response(answers[0], head, body, usage)
        events = _response_events(document)
    else:
        head["created"] = int(time.time())
        document = {**head, **_completion(known.api, answers), **({"usage": usage} if usage else {})}
        events = _completion_events(known, answers, head, usage)
    if known.stream:
        return Outcome(known.request_id, events=list(events))
    return Outcome(known.request_id, body=compact(document).encode())


def report_usage(known: SimulatedRequest) -> Json:
    """The usage as the API of the request names its fields."""
    read = {"cached_tokens": known.cached_tokens, "cache_write_tokens": known.cache_write_tokens}
    thought = {"reasoning_tokens": known.reasoning_tokens}
    asked, said = known.prompt_tokens, known.completion_tokens
    if known.api == "responses":
        details = {"input_tokens_details": read, "output_tokens_details": thought}
        return {"input_tokens": asked, "output_tokens": said, "total_tokens": asked + said, **details}
    usage: Json = {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}
    if known.api == "chat":  # the old completions have no details at OpenAI either
        predicted = {"accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0}
        usage["prompt_tokens_details"] = {**read, "audio_tokens": 0}
        usage["completion_tokens_details"] = {**thought, "audio_tokens": 0, **predicted}
    return usage


def _completion(api: str, answers: list[Answer]) -> Json:
    choices = []
    for index, answer in enumerate(answers):
        said: Json = {"text": answer.text}
        if api == "chat":
            said = {"message": {"role": "assistant", "content": answer.text or None, "refusal": None}}
            if answer.calls:
                said["message"]["tool_calls"] = [_chat_call(*call) for call in answer.calls]
        choices.append({"index": index, **said, "logprobs": None, "finish_reason": answer.finish_reason})
    return {"object": "chat.completion" if api == "chat" else "text_completion", "choices": choices}


def _chat_call(call_id: str, name: str, arguments: str) -> Json:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def _completion_events(
    known: SimulatedRequest, answers: list[Answer], head: Json, usage: Json | None
) -> Iterator[bytes]:
    def chunk(index: int, said: Json, finish_reason: str | None = None) -> bytes:
        choice = {"index": index, **said, "logprobs": None, "finish_reason": finish_reason}
        return sse({**head, "choices": [choice], **no_usage})

    # Asked for usage, every chunk but the last says null; not asked, the key is missing.
    # Source: ChatCompletionStreamOptionsParam of openai 3.54 and streams recorded from api.openai.com.
    no_usage = {"usage": None} if known.include_usage else {}
    chat = known.api == "chat"
    head = {**head, "object": "chat.completion.chunk" if chat else "text_completion"}
    for index, answer in enumerate(answers):
        if chat:
            opening = {"role": "assistant", "content": None if answer.calls else "", "refusal": None}
            yield chunk(index, {"delta": opening})
        for piece in _pieces(answer.text):
            yield chunk(index, {"delta": {"content": piece}} if chat else {"text": piece})
        for number, (call_id, name, arguments) in enumerate(answer.calls):
            yield chunk(index, {"delta": {"tool_calls": [{"index": number, **_chat_call(call_id, name, "")}]}})
            for piece in _pieces(arguments):
                call = {"index": number, "function": {"arguments": piece}}
                yield chunk(index, {"delta": {"tool_calls": [call]}})
        yield chunk(index, {"delta": {}} if chat else {"text": ""}, answer.finish_reason)
    if usage is not None and known.include_usage:
        yield sse({**head, "choices": [], "usage": usage})
    yield b"data: [DONE]\n\n"


_ECHOED: Json = {  # parameters that a response repeats, with what OpenAI fills in
    **dict.fromkeys(("instructions", "max_output_tokens", "previous_response_id", "prompt_cache_key", "user")),
    **{"metadata": {}, "parallel_tool_calls": True, "reasoning": {"effort": None, "summary": None}},
    **{"temperature": 1.0, "top_p": 1.0, "text": {"format": {"type": "text"}}, "tool_choice": "auto"},
}


def _response(answer: Answer, head: Json, body: Json, usage: Json | None) -> Json:
    status = "completed" if answer.complete else "incomplete"
    content = [{"type": "output_text", "annotations": [], "logprobs": [], "text": answer.text}]
    items: list[Json] = [
        {
            "id": new_id("fc_"),
            "type": "function_call",
            "call_id": call_id,
            "name": name,
            "arguments": arguments,
        }
        for call_id, name, arguments in answer.calls
    ]
    message = {"id": new_id("msg_"), "type": "message", "role": "assistant", "content": content}
    return {
        **{key: default if body.get(key) is None else body[key] for key, default in _ECHOED.items()},
        **{**head, "object": "response", "created_at": int(time.time()), "status": status, "error": None},
        **{"background": False, "store": False, "truncation": "disabled"},
        "incomplete_details": None if answer.complete else {"reason": "max_output_tokens"},
        "tools": [{"strict": True, **tool} for tool in get_array(body, "tools")],
        "output": [{**item, "status": status} for item in items or [message]],
        "usage": usage,
    }


def _response_events(response: Json) -> Iterator[bytes]:
    number = -1

    def event(kind: str, **fields: object) -> bytes:
        nonlocal number
        number += 1
        return sse({"type": kind, "sequence_number": number, **fields}, kind)

    begun = {**response, "status": "in_progress", "output": [], "usage": None, "incomplete_details": None}
    yield event("response.created", response=begun)
    yield event("response.in_progress", response=begun)
    for index, item in enumerate(response["output"]):
        at: Json = {"item_id": item["id"], "output_index": index}
        is_call = item["type"] == "function_call"
        added = {**item, "status": "in_progress", **({"arguments": ""} if is_call else {"content": []})}
        yield event("response.output_item.added", output_index=index, item=added)
        if is_call:
            for piece in _pieces(item["arguments"]):
                yield event("response.function_call_arguments.delta", **at, delta=piece)
            done = {"arguments": item["arguments"], "name": item["name"]}
            yield event("response.function_call_arguments.done", **at, **done)
        else:
            (part,) = item["content"]
            at["content_index"] = 0
            yield event("response.content_part.added", **at, part={**part, "text": ""})
            for piece in _pieces(part["text"]):
                yield event("response.output_text.delta", **at, delta=piece, logprobs=[])
            yield event("response.output_text.done", **at, text=part["text"], logprobs=[])
            yield event("response.content_part.done", **at, part=part)
        yield event("response.output_item.done", output_index=index, item=item)
    yield event(f"response.{response['status']}", response=response)


def embed(body: Json, model: str, seed: int) -> tuple[Json, int]:
    """An embeddings body and its ``prompt_tokens``; the vectors follow from the seed and the input.

    Raises:
        RefusedError: There is no input.
    """
    given = body.get("input")
    inputs = given if isinstance(given, list) and given and not isinstance(given[0], int) else [given]
    if not all(isinstance(item, (str, list)) and item for item in inputs):
        raise RefusedError("Missing or invalid parameter: 'input'.", "input")
    size = body.get("dimensions") or (3072 if "large" in model else 1536)
    data, tokens = [], 0
    for index, item in enumerate(inputs):
        tokens += math.ceil(len(item) / TOKEN_CHARS) if isinstance(item, str) else len(item)
        rng = random.Random(f"{seed}:{item}")  # noqa: S311 - reproducible, not secret
        vector = array("f", (rng.uniform(-1, 1) for _ in range(size)))
        packed = body.get("encoding_format") == "base64"
        embedding = base64.b64encode(vector.tobytes()).decode() if packed else vector.tolist()
        data.append({"object": "embedding", "index": index, "embedding": embedding})
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": model, "usage": usage}, tokens


def error_body(status: int, message: str | None, param: str | None = None, code: str | None = None) -> Json:
    """OpenAI's error body; without a message it is the usual one of the status."""
    kind, usual_code, usual_message = _ERRORS.get(status, _SERVER_ERROR)
    if message is None:
        message, code = usual_message, usual_code
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def sse(data: Json, event: str | None = None) -> bytes:
    """One server-sent event."""
    return (f"event: {event}\n" if event else "").encode() + b"data: " + compact(data).encode() + b"\n\n"


def _pieces(text: str) -> list[str]:
    size = PIECE_TOKENS * TOKEN_CHARS
    return [text[start : start + size] for start in range(0, len(text), size)]
