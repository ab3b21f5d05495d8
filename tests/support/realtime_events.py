"""Events of the Realtime API, as a server sends them."""

from __future__ import annotations

from typing import Any

from tests.support.socket_server import Json, Peer

MODEL = "gpt-realtime-2025-08-28"
USAGE: Json = {
    "total_tokens": 253,
    "input_tokens": 132,
    "output_tokens": 121,
    "input_token_details": {
        "text_tokens": 89,
        "audio_tokens": 13,
        "image_tokens": 30,
        "cached_tokens": 64,
        "cached_tokens_details": {"text_tokens": 60, "audio_tokens": 4, "image_tokens": 0},
    },
    "output_token_details": {"text_tokens": 30, "audio_tokens": 91},
}
TRANSCRIPT = "spoken words that nobody may read"


def session(transcription: str | None = "gpt-4o-transcribe") -> Json:
    """Return the first event of a session, in the stable form."""
    audio_input = {"transcription": None if transcription is None else {"model": transcription}}
    settings = {"type": "realtime", "id": "sess_1", "model": MODEL, "audio": {"input": audio_input}}
    return {"type": "session.created", "event_id": "event_1", "session": settings}


def beta_session() -> Json:
    """Return the first event of a session, in the beta form."""
    settings = {"id": "sess_1", "model": MODEL, "input_audio_transcription": {"model": "whisper-1"}}
    return {"type": "session.created", "event_id": "event_1", "session": settings}


def created(response_id: str) -> Json:
    """Return the event that begins a response."""
    response = {"object": "realtime.response", "id": response_id, "status": "in_progress", "output": [], "usage": None}
    return {"type": "response.created", "event_id": "event_2", "response": response}


def delta(response_id: str) -> Json:
    """Return a piece of audio."""
    place = {"response_id": response_id, "item_id": "item_1", "output_index": 0, "content_index": 0}
    return {"event_id": "event_3", "type": "response.output_audio.delta", **place, "delta": "AAAA" * 500}


def done(response_id: str, status: str = "completed", **more: Any) -> Json:
    """Return the event that ends a response."""
    content = [{"type": "output_audio", "transcript": "good day"}]
    output = [
        {"id": "item_1", "type": "message", "role": "assistant", "status": "completed", "content": content},
        {"id": "item_2", "type": "function_call", "call_id": "call_1", "name": "look", "arguments": "{}"},
    ]
    response = {"object": "realtime.response", "id": response_id, "status": status, "output": output, "usage": USAGE}
    return {"type": "response.done", "event_id": "event_9", "response": {**response, **more}}


def whole(response_id: str) -> list[Json]:
    """Return the events of a complete response."""
    return [created(response_id), delta(response_id), delta(response_id), done(response_id)]


def committed(item_id: str) -> Json:
    """Return the event that ends a piece of spoken input."""
    return {"type": "input_audio_buffer.committed", "event_id": "event_4", "item_id": item_id}


def transcribed(item_id: str, usage: Json) -> Json:
    """Return the transcription of a piece of spoken input."""
    return {
        "type": "conversation.item.input_audio_transcription.completed",
        "event_id": "event_5",
        "item_id": item_id,
        "content_index": 0,
        "transcript": TRANSCRIPT,
        "usage": usage,
    }


def error(code: str, event_id: str | None = None, text: str = "no") -> Json:
    """Return an error event."""
    inner = {"type": "invalid_request_error", "code": code, "message": text, "param": None, "event_id": event_id}
    return {"type": "error", "event_id": "event_6", "error": inner}


def answer_all(peer: Peer) -> None:
    """Begin a session, and send a complete response for every ``response.create``."""
    peer.send(session())
    number = 0
    while True:
        if peer.get()["type"] == "response.create":
            number += 1
            peer.send(*whole(f"resp_{number}"))
