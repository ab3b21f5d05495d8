"""Read the billed quantities of images, audio and videos: seconds, characters, counts and tokens.

Source: the types of openai 3.57.0 (``images_response.py``, ``image_gen_completed_event.py``, ``audio/``, ``video.py``),
read 2026-12-01.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from rlm_cachetrack.usage import locate_usage, plain

from .background import RUNNING, remember_counted
from .billed_facts import svg_usage_of
from .fields import get_field, list_of

if TYPE_CHECKING:
    from .response_facts import ResponseFacts

_TEXT_FORMATS = frozenset(("text", "srt", "vtt"))
_LONGEST_OPTION = 40


def may_be_text(api: str, body: Mapping[str, Any]) -> bool:
    """Return True if a successful response of an API need not be JSON: speech, and transcripts as plain text."""
    return api == "audio.speech" or (api.startswith("audio.") and body.get("response_format") in _TEXT_FORMATS)


def read_media(facts: ResponseFacts, response: Any, fields: Mapping[str, Any]) -> None:
    """Read the billed units of a complete response, if its API has any."""
    reader = _READERS.get(facts.api)
    if reader is not None:
        reader(facts, response, fields)


def read_final_event(facts: ResponseFacts, event: Mapping[str, Any]) -> None:
    """Read the usage in the event that ends an image, a transcript or speech in a stream."""
    usage = locate_usage(event)
    if event.get("type") in _IMAGE_EVENTS:
        facts.add_details(images=1)
        if usage is not None:  # each image of a stream has its own
            facts.use(_sum(plain(facts.usage), plain(usage)))
        _read_image_facts(facts, event)
        return
    if usage is not None:
        facts.use(usage)
    if type(text := event.get("text")) is str:
        facts.length = len(text)


_IMAGE_EVENTS = frozenset(("image_generation.completed", "image_edit.completed"))
FINAL_EVENTS = _IMAGE_EVENTS | {"transcript.text.done", "speech.audio.done"}
"""The types of the events that :func:`read_final_event` reads."""


APIS_WITH_REQUEST_UNITS = frozenset(("audio.speech",))
"""The APIs for which :func:`read_request_units` reads something."""


def read_request_units(facts: ResponseFacts) -> None:
    """Read the units that only the request contains: the characters of the text to speak."""
    if type(text := facts.body.get("input")) is str:
        facts.add_details(characters=len(text))


# -- by API -----------------------------------------------------------------------------------------------------------


def _images(facts: ResponseFacts, response: Any, fields: Mapping[str, Any]) -> None:
    facts.add_details(images=len(list_of(fields.get("data"))))
    _read_image_facts(facts, fields)


def _read_image_facts(facts: ResponseFacts, fields: Mapping[str, Any]) -> None:
    output = get_field(facts.usage, "output_tokens")
    if type(output) is int and get_field(facts.usage, "output_tokens_details") is None:
        facts.add_details(image_completion_tokens=output, replace=True)  # without a split, all output is the image
    if (drawing := svg_usage_of(fields.get("svg_usage"))) is not None:
        facts.note(tool_usage={"svg_generation": drawing})
    _note_options(facts, quality=fields.get("quality"), size=fields.get("size"))


def _transcript(facts: ResponseFacts, response: Any, fields: Mapping[str, Any]) -> None:
    text = response if type(response) is str else fields.get("text")
    if type(text) is str:
        facts.length = len(text)
    if facts.usage is None:
        facts.add_details(seconds=_number(fields.get("duration")))


def _speech(facts: ResponseFacts, response: Any, fields: Mapping[str, Any]) -> None:
    http_response = fields.get("response")  # the HTTP response, if the SDK returned the audio
    if http_response is None:
        return
    facts.http(http_response)
    if "event-stream" in http_response.headers.get("content-type", ""):
        for line in http_response.content.splitlines():
            if line.startswith(b"data:") and b"speech.audio.done" in line:
                read_final_event(facts, json.loads(line[5:]))


def _ocr(facts: ResponseFacts, response: Any, fields: Mapping[str, Any]) -> None:
    """Read the pages of a document. Source: https://docs.mistral.ai/api/endpoint/ocr, 2026-12-01."""
    pages = _number(get_field(fields.get("usage_info"), "pages_processed"))
    is_annotated = any(facts.body.get(name) is not None for name in _ANNOTATIONS)
    facts.add_details(annotated_pages=pages if is_annotated else None, pages=None if is_annotated else pages)


_ANNOTATIONS = ("document_annotation_format", "bbox_annotation_format")


def _video(facts: ResponseFacts, response: Any, fields: Mapping[str, Any]) -> None:
    status = str(fields.get("status"))
    if status in RUNNING:
        return
    remember_counted(str(fields.get("id")))
    facts.set_finish_reason(status)
    if not fields.get("error"):
        # For an extension, the response reports the length of the whole video.
        seconds = facts.body.get("seconds") if fields.get("remixed_from_video_id") is None else None
        facts.add_details(seconds=_number(seconds) or _number(fields.get("seconds")))
    _note_options(facts, size=fields.get("size"))


_READERS: Mapping[str, Callable[[ResponseFacts, Any, Mapping[str, Any]], None]] = {
    "images.generate": _images,
    "images.edit": _images,
    "images.create_variation": _images,
    "audio.transcriptions": _transcript,
    "audio.translations": _transcript,
    "audio.speech": _speech,
    "ocr": _ocr,
    "videos": _video,
}


def _note_options(facts: ResponseFacts, **options: Any) -> None:
    """Add the response's facts about its price to the request options."""
    stated = {name: value for name, value in options.items() if type(value) is str and len(value) <= _LONGEST_OPTION}
    if stated:
        facts.note(request_options={**(facts.extra or {}).get("request_options", {}), **stated})


def _number(value: Any) -> float | None:
    """Return a positive number, also if it is given as text; None for any other value."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    if not 0 < number < math.inf:
        return None
    return int(number) if number.is_integer() else number


def _sum(first: dict[str, Any] | None, second: dict[str, Any] | None) -> dict[str, Any]:
    """Return the sum of two usages."""
    total = dict(first or {})
    for name, value in (second or {}).items():
        if isinstance(value, dict):
            total[name] = _sum(total.get(name), value)
        elif type(value) is int:
            total[name] = total.get(name, 0) + value
        else:
            total[name] = value
    return total
