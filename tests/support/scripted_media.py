"""Responses of the scripted server for images, audio, videos, decisions, batches, evals, graders and agent sessions."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

Json = dict[str, Any]

IMAGE_USAGE = {
    "input_tokens": 50,
    "input_tokens_details": {"image_tokens": 30, "text_tokens": 20},
    "output_tokens": 400,
    "total_tokens": 450,
}
AUDIO_TOKENS = {
    "type": "tokens",
    "input_tokens": 120,
    "input_token_details": {"audio_tokens": 100, "text_tokens": 20},
    "output_tokens": 15,
    "total_tokens": 135,
}
SECONDS = {"type": "duration", "seconds": 12.5}
SPEECH_USAGE = {"input_tokens": 3, "output_tokens": 90, "total_tokens": 93}
DECISION_USAGE = {
    "input_tokens": 2300,
    "input_tokens_details": {"cached_tokens": 2048, "cache_write_tokens": 128},
    "output_tokens": 5,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 2305,
}
TOTAL_USAGE = {
    "input_tokens": 10_000,
    "input_tokens_details": {"cached_tokens": 4_000},
    "output_tokens": 500,
    "output_tokens_details": {"reasoning_tokens": 100},
    "total_tokens": 10_500,
}
GRADER_USAGE = {"prompt_tokens": 70, "completion_tokens": 8, "total_tokens": 78}
TRANSCRIPT = "what nobody may store"
BINARY = b"ID3\x04\x00\xff\xfb\x90 not JSON"
CREATED = 1_795_000_000  # the price list has no batch prices before November 2026
SPEECH_EVENTS = [
    {"type": "speech.audio.delta", "audio": "AAAA"},
    {"type": "speech.audio.done", "usage": SPEECH_USAGE},
]


def sse(*events: Json) -> bytes:
    """Return events as a stream of server-sent events."""
    return b"".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events)


def answer(method: str, path: str, body: Json) -> tuple[str, bytes] | None:
    """Return the content type and body of a response; None for a path that is not scripted."""
    for start, reply in _REPLIES.items():
        if path == start or (start.endswith("/") and path.startswith(start)):
            return reply(method, path, body)
    return None


def _document(value: Json) -> tuple[str, bytes]:
    return "application/json", json.dumps(value).encode()


def _image(method: str, path: str, body: Json) -> tuple[str, bytes]:
    if str(body.get("stream")).lower() == "true":
        kind = "image_generation" if path.endswith("generations") else "image_edit"
        shared = {
            "b64_json": "AAAA", "background": "opaque", "created_at": CREATED, "output_format": "png",
            "quality": "high", "size": "1024x1024",
        }  # fmt: skip
        partial = {"type": f"{kind}.partial_image", "partial_image_index": 0, **shared}
        return "text/event-stream", sse(partial, {"type": f"{kind}.completed", "usage": IMAGE_USAGE, **shared})
    document: Json = {
        "created": CREATED, "data": [{"b64_json": "AAAA"}, {"b64_json": "BBBB"}], "quality": "high",
        "size": "1024x1024",
    }  # fmt: skip
    if not path.endswith("variations"):
        document["usage"] = IMAGE_USAGE
    if body.get("output_format") == "svg":
        document["svg_usage"] = {
            "model": "gpt-6-luna", "input_tokens": 40, "output_tokens": 300, "reasoning_tokens": 200,
            "total_tokens": 340,
        }  # fmt: skip
    return _document(document)


def _transcript(method: str, path: str, body: Json) -> tuple[str, bytes]:
    if str(body.get("stream")).lower() == "true":
        done = {"type": "transcript.text.done", "text": TRANSCRIPT, "usage": AUDIO_TOKENS}
        return "text/event-stream", sse({"type": "transcript.text.delta", "delta": TRANSCRIPT}, done)
    form = body.get("response_format")
    if form in ("text", "srt", "vtt"):
        return "text/plain", TRANSCRIPT.encode()
    if form == "verbose_json":
        document = {"task": "transcribe", "language": "english", "duration": 12.5, "text": TRANSCRIPT, "segments": []}
        return _document(document if path.endswith("translations") else {**document, "usage": SECONDS})
    return _document(
        {"text": TRANSCRIPT} if path.endswith("translations") else {"text": TRANSCRIPT, "usage": AUDIO_TOKENS}
    )


def _speech(method: str, path: str, body: Json) -> tuple[str, bytes]:
    if body.get("stream_format") == "sse":
        return "text/event-stream", sse(*SPEECH_EVENTS)
    return "audio/mpeg", BINARY


def _decision(method: str, path: str, body: Json) -> tuple[str, bytes]:
    answers = [{"type": "predicate", "name": "q", "probability": 0.75}]
    return _document({"answers": answers, "model": "gpt-6-luna", "usage": DECISION_USAGE})


def _moderation(method: str, path: str, body: Json) -> tuple[str, bytes]:
    return _document({"id": "modr-1", "model": "omni-moderation-2024-09-26", "results": []})


def _video(method: str, path: str, body: Json) -> tuple[str, bytes]:
    """Return a video that is queued when it is requested, and made when it is retrieved."""
    failed = "failed" in path
    status = "queued" if method == "POST" else "failed" if failed else "completed"
    video_id = path.removeprefix("/videos/") if method == "GET" else f"video_{str(body['prompt']).split()[-1]}"
    document = {
        "id": video_id, "object": "video", "created_at": CREATED, "model": "sora-2", "progress": 0, "seconds": "8",
        "size": "720x1280", "status": status,
    }  # fmt: skip
    return _document({**document, "error": {"code": "wrong", "message": "no"}} if failed else document)


def _batch(method: str, path: str, body: Json) -> tuple[str, bytes]:
    batch_id = path.split("/")[2]
    status = batch_id.split("-")[0].removeprefix("batch_")
    document = {
        "id": batch_id, "object": "batch", "completion_window": "24h", "created_at": CREATED,
        "endpoint": "/v1/responses",
        "input_file_id": "file-1", "status": status, "model": "gpt-5-2025-08-07",
        "request_counts": {"completed": 2, "failed": 0, "total": 2}, "in_progress_at": CREATED + 60,
        "completed_at": CREATED + 600,
    }  # fmt: skip
    return _document(document if status in ("in_progress", "failed") else {**document, "usage": TOTAL_USAGE})


def _eval(method: str, path: str, body: Json) -> tuple[str, bytes]:
    run_id = path.split("/")[4]
    usage = {
        "cached_tokens": 10,
        "completion_tokens": 20,
        "invocation_count": 2,
        "prompt_tokens": 300,
        "total_tokens": 320,
    }
    models = [{**usage, "model_name": name} for name in ("gpt-5", "gpt-5-mini")]
    status = "queued" if "queued" in run_id else "completed"
    return _document(
        {
            "id": run_id, "object": "eval.run", "created_at": CREATED, "eval_id": "eval_1", "name": "n",
            "model": "gpt-5", "status": status, "per_model_usage": models if status == "completed" else [],
        }
    )  # fmt: skip


def _grader(method: str, path: str, body: Json) -> tuple[str, bytes]:
    by_model = {} if body["grader"]["type"] == "python" else {"gpt-5-2025-08-07": GRADER_USAGE}
    metadata = {"name": "g", "type": "score_model", "scores": {}, "execution_time": 1.0, "errors": {}}
    return _document(
        {"reward": 1.0, "sub_rewards": {}, "metadata": metadata, "model_grader_token_usage_per_model": by_model}
    )


def turn(turn_id: str, session_id: str, status: str = "completed", **more: Any) -> Json:
    """Return a turn of an agent session."""
    return {
        "id": turn_id, "object": "agent.session.turn", "agent_id": "agent_1", "session_id": session_id,
        "created_at": CREATED, "started_at": CREATED + 1, "completed_at": CREATED + 31, "status": status,
        "usage": TOTAL_USAGE, "prompt_cache_options": {"ttl": "12h"}, **more,
    }  # fmt: skip


def _session(session_id: str) -> Json:
    agent = {"id": "agent_1", "model": "gpt-6-luna", "service_tier": "flex", "tools": []}
    return {"id": session_id, "object": "agent.session", "agent": agent, "created_at": CREATED, "status": "idle"}


def _agents(method: str, path: str, body: Json) -> tuple[str, bytes]:
    parts = path.split("/")[3:]  # after /agents/sessions
    session_id = parts[0] if parts else body.get("environment", {}).get("id", "sess_new")
    if parts[-1:] == ["events"] or body.get("stream") is True:
        about = {"event_id": "e", "session_id": session_id}
        ended = turn(f"turn_of_{session_id}", session_id)
        return "text/event-stream", sse(
            {"type": "agent.session.created", **about, "session": _session(session_id)},
            {"type": "agent.session.turn.completed", **about, "turn_id": ended["id"], "turn": ended},
            {"type": "agent.session.idle", **about},
        )
    if len(parts) < 2:
        return _document(_session(session_id))
    if len(parts) == 2:
        turns = [turn("turn_a", session_id), turn("turn_b", session_id, "in_progress", usage=None)]
        return _document(
            {"object": "list", "data": turns, "first_id": "turn_a", "last_id": "turn_b", "has_more": False}
        )
    return _document(turn(parts[-1], session_id, "failed" if "failed" in parts[-1] else "completed"))


_REPLIES: dict[str, Callable[[str, str, Json], tuple[str, bytes]]] = {
    "/images/": _image,
    "/audio/transcriptions": _transcript,
    "/audio/translations": _transcript,
    "/audio/speech": _speech,
    "/decisions": _decision,
    "/moderations": _moderation,
    "/videos": _video,
    "/videos/": _video,
    "/batches/": _batch,
    "/evals/": _eval,
    "/fine_tuning/alpha/graders/run": _grader,
    "/agents/sessions": _agents,
    "/agents/sessions/": _agents,
}
