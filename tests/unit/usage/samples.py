"""Usages in the format of the OpenAI SDK."""

from __future__ import annotations

from typing import Any

CHAT_USAGE = {
    "prompt_tokens": 2006,
    "completion_tokens": 300,
    "total_tokens": 2306,
    "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 128},
}
RESPONSES_USAGE = {
    "input_tokens": 2600,
    "input_tokens_details": {"cached_tokens": 2000, "cache_write_tokens": 400},
    "output_tokens": 90,
    "output_tokens_details": {"reasoning_tokens": 64},
    "total_tokens": 2690,
}


def chat_chunk(**more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": "hi"}, "finish_reason": None}
    return {
        "id": "1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [choice],
        **more,
    }


def chat(prompt: object, completion: object, total: object, **more: Any) -> dict[str, Any]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total, **more}
