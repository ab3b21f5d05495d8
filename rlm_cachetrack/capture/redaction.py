"""Redact error messages for storage: trim them, and remove keys and quotes of the request.

Runs on the calling thread, so its time is bounded (1 ms): quotes of any length are searched only in a short request.
Otherwise, outside of quotation marks, the words that every API uses are kept ("maximum context length is 128000
tokens"), and other words if a bounded search shows that the request does not contain them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

_MESSAGE_CHARACTERS = 500
_MAX_SEARCHED_CHARACTERS = 5_000
_MAX_SEARCHED_VALUES = 400
_MAX_WORD_SEARCH = 400_000  # characters, of all words together
_SECRETS = re.compile(
    r"\b(?:sk|rk|pk|xai|gsk|key|pplx|csk|tgp|fw|hf|or)[-_][\w*.-]{6,}"  # keys as providers write them
    r"|\bBearer\s+\S+"
    r"|\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*"  # a JSON web token
    r"|(?<=://)[^/\s@]+@"
    r"|\b[0-9a-fA-F]{32,}\b",
    re.IGNORECASE,
)
_WINDOW, _STRIDE = 8, 4
_MIN_VALUE = 3
_CUT = "[…]"
_IDENTIFIER = re.compile(r"[A-Za-z][\w.-]{0,99}")

# Names and values of the APIs, which are not the caller's text even if a request contains them.
_API_WORDS = frozenset(
    """
    allowed_tools assistant audio auto background batch cache_control chat choices content conversation custom
    default description detailed developer dimensions disabled effort embedding enabled encoding_format ephemeral
    extra_body file flex float format frequency_penalty function functions function_call generate high image
    image_url include include_usage index input input_audio input_image input_text instructions integer items json
    json_object json_schema limit logit_bias logprobs low max_completion_tokens max_output_tokens max_tokens
    max_tool_calls medium message messages metadata minimal modalities model name none null number object option
    options output parallel_tool_calls parameters prediction presence_penalty previous_response_id priority prompt
    prompt_cache_key prompt_cache_options prompt_cache_retention properties property reasoning reasoning_effort
    required response_format role safety_identifier schema seed server service_tier stop store stream
    stream_options strict string suffix system temperature text thinking tool tool_call tool_calls tool_choice
    tools top_logprobs top_p truncation type url user user_location value verbosity web_search web_search_preview
    """.split()  # noqa: SIM905 - a list would be four times as long
)
# What is kept of a message about a request that is too long to be searched.
_COMMON_WORDS = _API_WORDS | frozenset(
    """
    a about above access account after again all allowed already also an and and/or any api are argument array as
    at authentication available be because been below between body both but by call called cannot capacity
    characters check code completion connection contact contain contains context conversation could count current
    currently daily day days deadline deprecated did does doesn't due each either empty enough error exceed
    exceeded exceeds expected failed few field fields filter find following for format found from further gateway
    given greater had has have help hour hours however id if in incorrect instead internal into invalid is issue
    it its key language large larger later least length less like limited limits longer malformed management many
    match maximum may messages minimum minute minutes missing model's models more most must need new no not of on
    one only or organization organization's other our out over overloaded own parameter parse per permission plan
    please policy position processing project provide provided quota rate rate_limit reach reached read reason
    received reduce refer region remove request requested requests requires response resulted retry same second
    seconds see send sent server service session should since size small some specified status such support
    supported switch temporarily than that the their then there these they this through time timed timeout to
    token token's tokens tokens-per-minute too total tpm rpm tpd rpd try two unable unavailable unexpected unknown
    unless unsupported up upgrade usage use used using valid values version was we went were when which while will
    with within would wrong you your
    """.split()  # noqa: SIM905 - a list would be four times as long
)
_QUOTED = re.compile(r"""(?<![\w])(['"`]).*\1(?![\w])""", re.DOTALL)
_WORD = re.compile(r"\[…\]|[^\W\d_][\w'/-]*|\d+(?:[.,]\d+)*|[^\w\s]|\s+")
_SEVERAL_CUTS = re.compile(r"\[…\](?:[\s.,:;/-]*\[…\])+")
_PUNCTUATION = frozenset((*".,:;!?()%/-*'\"`", _CUT))
_MAX_DIGITS = 9


def safe_error(
    error: tuple[str, str], body: Mapping[str, Any], others: Mapping[str, Any] | None = None
) -> tuple[str, str]:
    """Return the type and message of an error in a form that may be stored.

    Args:
        error: The type and message, of the server or the SDK.
        body: The request body.
        others: Further values that must not be stored: headers, query parameters, credentials of the client.
    """
    kind, message = error
    texts = _texts_of(body, others or {})
    # If the server sent the error with status 200, the type is the server's.
    return kind if _is_api_word(kind, texts) else _redacted(kind, texts)[:100], _redacted(message, texts)


def _is_api_word(kind: str, texts: list[str] | None) -> bool:
    return _IDENTIFIER.fullmatch(kind) is not None and (texts is None or kind not in texts)


def _redacted(message: str, texts: list[str] | None) -> str:
    message = _SECRETS.sub("***", message[: _MESSAGE_CHARACTERS * 4])[:_MESSAGE_CHARACTERS]
    if texts is not None and sum(map(len, texts)) <= _MAX_SEARCHED_CHARACTERS:
        return _without_quotes(message, texts)
    return _common_words_of(message, texts)


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

    The SDK raises ``APIError`` for an event with an ``error`` and keeps only that field, not the usage next to it. The
    event is still in the frame of the SDK's generator, as its variable ``data`` (openai 1.66 to 3.57).
    """
    trace = exc.__traceback__
    while trace is not None:
        frame = trace.tb_frame
        if frame.f_code.co_name == "__stream__" and trace.tb_next is None:
            return frame.f_locals.get("data")
        trace = trace.tb_next
    return None


def _texts_of(body: Mapping[str, Any], others: Mapping[str, Any]) -> list[str] | None:
    """Return the keys and values of a request that are the caller's text; None if there are too many to search."""
    found: list[str] = []
    for count, value in enumerate(_values({**body, "model": None}, others)):
        if count > _MAX_SEARCHED_VALUES:
            return None
        if len(value) >= _MIN_VALUE and value not in _API_WORDS:
            found.append(value)
    return found


def _values(*roots: object) -> Iterator[str]:
    """Yield the keys and values of mappings and lists as text, in no order."""
    waiting: list[Iterator[object]] = [iter(roots)]
    while waiting:
        for value in waiting[-1]:
            if isinstance(value, Mapping):
                waiting += [iter(value.keys()), iter(value.values())]
                break
            if isinstance(value, (list, tuple)):
                waiting.append(iter(value))
                break
            yield _text_of(value)
        else:
            waiting.pop()


def _text_of(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    is_long = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) >= 10**6
    return str(value) if isinstance(value, str) or is_long else ""


def _without_quotes(message: str, texts: list[str]) -> str:
    """Cut out quotes of the texts: whole values, all parts of 12 characters or more, and some shorter ones."""
    for value in sorted(
        {text for text in texts if len(text) <= len(message) and text in message}, key=len, reverse=True
    ):
        whole = re.escape(value) if len(value) >= _WINDOW else rf"(?<!\w){re.escape(value)}(?!\w)"
        message = re.sub(whole, _CUT, message)
    searched = "\0".join(text for text in texts if len(text) >= _WINDOW)
    position = 0
    while position + _WINDOW <= len(message):
        found = searched.find(message[position : position + _WINDOW])
        if found < 0:
            position += _STRIDE
            continue
        start, end, before, after = position, position + _WINDOW, found, found + _WINDOW
        while start and before and message[start - 1] == searched[before - 1]:
            start, before = start - 1, before - 1
        while end < len(message) and after < len(searched) and message[end] == searched[after]:
            end, after = end + 1, after + 1
        message = f"{message[:start]}{_CUT}{message[end:]}"
        position = start + len(_CUT)
    return message


def _common_words_of(message: str, texts: list[str] | None) -> str:
    """Return the message with only common words, short numbers, and words that the texts do not contain."""
    known: dict[str, bool] = {}
    cost = 0 if texts is None else sum(map(len, texts)) + 100 * len(texts)
    remaining = _MAX_WORD_SEARCH

    def is_kept(part: str) -> bool:
        nonlocal remaining
        if part[0].isdigit():
            return sum(map(str.isdigit, part)) <= _MAX_DIGITS
        if part.isspace() or part in _PUNCTUATION or part.lower() in _COMMON_WORDS:
            return True
        if part not in known:
            remaining -= cost
            known[part] = texts is not None and remaining >= 0 and not any(part in text for text in texts)
        return known[part]

    kept = [part if is_kept(part) else _CUT for part in _WORD.findall(_QUOTED.sub(rf"\1{_CUT}\1", message))]
    return _SEVERAL_CUTS.sub(_CUT, "".join(kept)).strip()
