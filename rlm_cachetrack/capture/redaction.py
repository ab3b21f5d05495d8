"""Redact error messages for storage: trim them, and remove keys and quotes of the request."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_MESSAGE_CHARACTERS = 500
_SECRETS = re.compile(
    r"\b(?:sk|rk|pk|xai|gsk|key|pplx|csk|tgp|fw|hf|or)[-_][\w*.-]{6,}"  # keys as providers write them
    r"|\bBearer\s+\S+"
    r"|\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*"  # a JSON web token
    r"|(?<=://)[^/\s@]+@"
    r"|\b[0-9a-fA-F]{32,}\b",
    re.IGNORECASE,
)
_WINDOW, _STRIDE = 8, 4


def safe_message(message: str, body: Mapping[str, Any]) -> str:
    """Return the message in a form that may be stored.

    Args:
        message: The message of the server or the SDK.
        body: The request body. The time grows with its length; only failed calls are read here.
    """
    return _without_prompt(_without_keys(message), body)


def message_of(exc: BaseException) -> str:
    """Return the message of the server, rather than the SDK's text with the whole body."""
    body = getattr(exc, "body", None)
    if isinstance(body, Mapping):
        error = body.get("error")
        body = error if isinstance(error, Mapping) else body
        message = body.get("message")
        if isinstance(message, str) and message:
            return message
    message = getattr(exc, "message", None)
    return message if isinstance(message, str) else str(exc)


def event_of(exc: BaseException) -> Any:
    """Return the event of a stream for which the SDK raised ``exc``; None if it was raised for another reason.

    The SDK raises ``APIError`` for an event with an ``error`` and keeps only that field, not the usage beside it. The
    event is still in the frame of the SDK's generator, as its variable ``data`` (openai 1.66 to 3.57).
    """
    trace = exc.__traceback__
    while trace is not None:
        frame = trace.tb_frame
        if frame.f_code.co_name == "__stream__" and trace.tb_next is None:
            return frame.f_locals.get("data")
        trace = trace.tb_next
    return None


def _without_keys(text: str) -> str:
    """Return the trimmed text, without strings that look like a key."""
    return _SECRETS.sub("***", text[: _MESSAGE_CHARACTERS * 4])[:_MESSAGE_CHARACTERS]


def _without_prompt(message: str, body: Mapping[str, Any]) -> str:
    """Cut out quotes of the request: all of 12 characters or more, and some shorter ones."""
    texts: list[str] = []
    for name in ("messages", "input", "instructions", "prompt", "user", "metadata", "tools", "text", "response_format"):
        _collect_texts(body.get(name), texts, 0)
    position = 0
    while position + _WINDOW <= len(message):
        window = message[position : position + _WINDOW]
        text = next((text for text in texts if window in text), None)
        if text is None:
            position += _STRIDE
            continue
        start, end = position, position + _WINDOW
        while start > 0 and message[start - 1 : end] in text:
            start -= 1
        while end < len(message) and message[start : end + 1] in text:
            end += 1
        message = f"{message[:start]}[…]{message[end:]}"
        position = start + 3
    return message


def _collect_texts(value: Any, texts: list[str], depth: int) -> None:
    if type(value) is str:
        if len(value) >= _WINDOW:
            texts.append(value)
    elif depth < 6:
        if isinstance(value, Mapping):
            for name, item in value.items():
                if name not in ("type", "role", "id"):  # words of the API, not of the prompt
                    _collect_texts(item, texts, depth + 1)
        elif isinstance(value, (list, tuple)):
            for item in value:
                _collect_texts(item, texts, depth + 1)
