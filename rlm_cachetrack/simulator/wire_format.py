"""The wire format: outputs, usage and errors as OpenAI's bodies and stream events."""

from __future__ import annotations

import base64
import math
import random
import time
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field

from .model_output import ModelOutput, new_id
from .prompt import TOKEN_CHARS
from .request import Json, RejectedError, SimulatedRequest, compact, get_array

PIECE_TOKENS = 4  # tokens of the output in one stream event
_ERRORS = {  # status: type, code, message
    400: ("invalid_request_error", None, "Invalid request."),
    401: ("invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    404: ("invalid_request_error", "model_not_found", "The model does not exist or you cannot use it."),
    429: ("requests", "rate_limit_exceeded", "Rate limit reached."),
}
_SERVER_ERROR = ("server_error", None, "The server had an error while processing your request.")


@dataclass(slots=True)
class WireResponse:
    """An HTTP response: a body, or the events of a stream, with the delays in seconds before and between them."""

    request_id: str
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    events: list[bytes] | None = None
    wait_s: float = 0.0
    gap_s: float = 0.0
    cut_after: int | None = None


def render(request: SimulatedRequest, body: Json, outputs: list[ModelOutput], usage: Json | None) -> WireResponse:
    """Render the outputs as a body, or as stream events if the request asked for a stream."""
    prefix = {"chat": "chatcmpl-", "responses": "resp_"}.get(request.api, "cmpl-")
    head: Json = {"id": new_id(prefix), "model": request.model, "service_tier": request.service_tier}
    if request.api == "responses":
        document = _response(outputs[0], head, body, usage)
        events = _response_events(document)
    else:
        head["created"] = int(time.time())
        document = {**head, **_completion(request.api, outputs), **({"usage": usage} if usage else {})}
        events = _completion_events(request, outputs, head, usage)
    if request.stream:
        return WireResponse(request.request_id, events=list(events))
    return WireResponse(request.request_id, body=compact(document).encode())


def report_usage(request: SimulatedRequest) -> Json:
    """Return the usage with the field names of the request's API."""
    read = {"cached_tokens": request.cached_tokens, "cache_write_tokens": request.cache_write_tokens}
    reasoning = {"reasoning_tokens": request.reasoning_tokens}
    prompt, completion = request.prompt_tokens, request.completion_tokens
    if request.api == "responses":
        details = {"input_tokens_details": read, "output_tokens_details": reasoning}
        return {"input_tokens": prompt, "output_tokens": completion, "total_tokens": prompt + completion, **details}
    usage: Json = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    if request.api == "chat":  # OpenAI's legacy completions have no details either
        predicted = {"accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0}
        usage["prompt_tokens_details"] = {**read, "audio_tokens": 0}
        usage["completion_tokens_details"] = {**reasoning, "audio_tokens": 0, **predicted}
    return usage


def _completion(api: str, outputs: list[ModelOutput]) -> Json:
    choices = []
    for index, output in enumerate(outputs):
        content: Json = {"text": output.text}
        if api == "chat":
            content = {"message": {"role": "assistant", "content": output.text or None, "refusal": None}}
            if output.calls:
                content["message"]["tool_calls"] = [_chat_call(*call) for call in output.calls]
        choices.append({"index": index, **content, "logprobs": None, "finish_reason": output.finish_reason})
    return {"object": "chat.completion" if api == "chat" else "text_completion", "choices": choices}


def _chat_call(call_id: str, name: str, arguments: str) -> Json:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def _completion_events(
    request: SimulatedRequest, outputs: list[ModelOutput], head: Json, usage: Json | None
) -> Iterator[bytes]:
    def chunk(index: int, content: Json, finish_reason: str | None = None) -> bytes:
        choice = {"index": index, **content, "logprobs": None, "finish_reason": finish_reason}
        return sse({**head, "choices": [choice], **no_usage})

    # If usage was requested, it is null in every chunk but the last; otherwise the key is missing.
    # Source: ChatCompletionStreamOptionsParam of openai 3.54 and streams recorded from api.openai.com.
    no_usage = {"usage": None} if request.include_usage else {}
    chat = request.api == "chat"
    head = {**head, "object": "chat.completion.chunk" if chat else "text_completion"}
    for index, output in enumerate(outputs):
        if chat:
            opening = {"role": "assistant", "content": None if output.calls else "", "refusal": None}
            yield chunk(index, {"delta": opening})
        for piece in _pieces(output.text):
            yield chunk(index, {"delta": {"content": piece}} if chat else {"text": piece})
        for number, (call_id, name, arguments) in enumerate(output.calls):
            yield chunk(index, {"delta": {"tool_calls": [{"index": number, **_chat_call(call_id, name, "")}]}})
            for piece in _pieces(arguments):
                call = {"index": number, "function": {"arguments": piece}}
                yield chunk(index, {"delta": {"tool_calls": [call]}})
        yield chunk(index, {"delta": {}} if chat else {"text": ""}, output.finish_reason)
    if usage is not None and request.include_usage:
        yield sse({**head, "choices": [], "usage": usage})
    yield b"data: [DONE]\n\n"


_ECHOED: Json = {  # request parameters that a response repeats, with OpenAI's defaults
    **dict.fromkeys(("instructions", "max_output_tokens", "previous_response_id", "prompt_cache_key", "user")),
    **{"metadata": {}, "parallel_tool_calls": True, "reasoning": {"effort": None, "summary": None}},
    **{"temperature": 1.0, "top_p": 1.0, "text": {"format": {"type": "text"}}, "tool_choice": "auto"},
}


def _response(output: ModelOutput, head: Json, body: Json, usage: Json | None) -> Json:
    status = "completed" if output.is_complete else "incomplete"
    content = [{"type": "output_text", "annotations": [], "logprobs": [], "text": output.text}]
    items: list[Json] = [
        {
            "id": new_id("fc_"),
            "type": "function_call",
            "call_id": call_id,
            "name": name,
            "arguments": arguments,
        }
        for call_id, name, arguments in output.calls
    ]
    message = {"id": new_id("msg_"), "type": "message", "role": "assistant", "content": content}
    return {
        **{key: default if body.get(key) is None else body[key] for key, default in _ECHOED.items()},
        **{**head, "object": "response", "created_at": int(time.time()), "status": status, "error": None},
        **{"background": False, "store": False, "truncation": "disabled"},
        "incomplete_details": None if output.is_complete else {"reason": "max_output_tokens"},
        "tools": [{"strict": True, **tool} for tool in get_array(body, "tools")],
        "output": [{**item, "status": status} for item in items or [message]],
        "usage": usage,
    }


def _response_events(response: Json) -> Iterator[bytes]:
    number = -1

    def event(event_type: str, **fields: object) -> bytes:
        nonlocal number
        number += 1
        return sse({"type": event_type, "sequence_number": number, **fields}, event_type)

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
    """Return an embeddings body and its ``prompt_tokens``. The seed and the input determine the vectors.

    Raises:
        RejectedError: The input is missing or invalid.
    """
    given = body.get("input")
    inputs = given if isinstance(given, list) and given and not isinstance(given[0], int) else [given]
    if not all(isinstance(item, (str, list)) and item for item in inputs):
        raise RejectedError("Missing or invalid parameter: 'input'.", "input")
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
    """Return OpenAI's error body; without a message, the usual one of the status."""
    error_type, usual_code, usual_message = _ERRORS.get(status, _SERVER_ERROR)
    if message is None:
        message, code = usual_message, usual_code
    return {"error": {"message": message, "type": error_type, "param": param, "code": code}}


def sse(data: Json, event: str | None = None) -> bytes:
    """Encode one server-sent event."""
    return (f"event: {event}\n" if event else "").encode() + b"data: " + compact(data).encode() + b"\n\n"


def _pieces(text: str) -> list[str]:
    size = PIECE_TOKENS * TOKEN_CHARS
    return [text[start : start + size] for start in range(0, len(text), size)]
