"""Load recorded responses of real providers, and the values that the library must read from them.

The recordings are not part of the project: tests skip if the folder ``../shared/corpus`` does not exist.
"""

from __future__ import annotations

import importlib.util
import json
import lzma
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "corpus"
FILE = FOLDER / "recorded.jsonl.xz"
ABSENT = "the recorded responses of real providers (../shared/corpus) are not beside the project"
FIELDS = ("prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens", "cache_write_tokens")


def load() -> list[dict[str, Any]]:
    """Return all recorded interactions."""
    with lzma.open(FILE, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def replay_server() -> Any:
    """Return the loopback server that replays them: a context manager with ``base_url``."""
    spec = importlib.util.spec_from_file_location("replay_server", FOLDER / "replay_server.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.ReplayServer([FILE])


def expected_tokens(case: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Return the token counts of the corpus with documented exceptions applied, and the exception that applied."""
    want = {name: case["expected"][name] for name in FIELDS}
    extra, kind = case["extra"], "equal"
    quirks = extra.get("quirks") or []
    if "cached_exceeds_prompt" in quirks:
        kind = "cached tokens counted apart"
        want["prompt_tokens"] += want["cached_tokens"]
        want["total_tokens"] += want["cached_tokens"]
    if "total!=prompt+completion" in quirks and extra["reasoning_tokens"]:
        kind = "reasoning counted apart"
        want["completion_tokens"] += extra["reasoning_tokens"]
        assert want["prompt_tokens"] + want["completion_tokens"] == want["total_tokens"]
    other = extra.get("other_cache_keys") or {}
    for name, keys in {
        "cached_tokens": ("num_cached_tokens", "cache_read_input_tokens"),
        "cache_write_tokens": ("cache_creation_input_tokens",),
    }.items():
        for key in keys:
            if key in other:
                kind = "spelling that a plain reading does not know"
                want[name] = other[key]
    return want, kind
