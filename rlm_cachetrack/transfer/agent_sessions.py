"""Read the session files of Codex CLI and Claude Code: one run per session, one event per model call.

Both programs append JSON lines. Prompts are read to fingerprint them and then dropped.

* Codex: ``~/.codex/sessions/**/rollout-*.jsonl``. ``token_count`` events have the usage of the last call and the
  running total; an event may be repeated, with the same total. Source: https://github.com/openai/codex
  codex-rs/protocol (``TokenUsageInfo``, ``RolloutItem``) and readers such as https://github.com/ryoppippi/ccusage,
  2026-12-01.
* Claude Code: ``~/.claude/projects/**/*.jsonl``. A response is written as one line for each block of its content, each
  with the usage so far, so the last line of a message is used; resumed sessions repeat lines of earlier ones. The last
  response, if it has no stop reason, is left out until the file has not changed for ten minutes. Source: the same
  readers, 2026-12-01.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

from rlm_cachetrack._process import number_of, uuid7

from .import_formats import mapping_of, moment_of, text_of

Agent = Literal["codex", "claude-code"]
AGENTS: Mapping[Agent, tuple[Path, str]] = {
    "codex": (Path("~/.codex/sessions"), "rollout-*.jsonl"),
    "claude-code": (Path("~/.claude/projects"), "*.jsonl"),
}
"""The folder of each program's session files, and the pattern of their names."""

# Items of a Codex session that the model wrote: they are the output of a request and belong to the next one.
_CODEX_OUTPUT = ("function_call", "custom_tool_call", "local_shell_call", "web_search_call", "reasoning")


_FRESH_S = 600


class SessionCall(NamedTuple):
    """One model call of a session.

    Attributes:
        number: The number in its ``interaction_id``.
        event: Its event, of kind ``call``.
        body: The request as far as the file shows it, to be fingerprinted.
        api: The API of ``body``.
    """

    number: int
    event: dict[str, Any]
    body: dict[str, Any]
    api: str


def session_files(agent: Agent, path: Path | None) -> list[Path]:
    """Return the session files of a program, oldest first: those of a folder, or one file. Blocks for the folder."""
    folder, pattern = AGENTS[agent]
    chosen = (path or folder).expanduser()
    if chosen.is_file():
        return [chosen]
    return sorted(chosen.rglob(pattern), key=lambda file: file.stat().st_mtime)


def read_session(agent: Agent, path: Path, seen: set[str], query_id: str | None = None) -> Iterator[SessionCall]:
    """Yield the model calls of a session file in order. Damaged lines, such as one that is being written, are skipped.

    Args:
        agent: The program that wrote the file.
        path: The file.
        seen: The ids of calls that were read already, which are skipped; those of this file are added.
        query_id: The query; None: the program and the name of the project's folder.
    """
    with path.open(encoding="utf-8", errors="replace") as file:
        lines = (line for text in file if (line := _decoded(text)) is not None)
        reader = _Codex(path, query_id) if agent == "codex" else _Claude(path, query_id)
        for call in reader.calls(lines):
            if call.event["response_id"] not in seen:
                seen.add(call.event["response_id"])
                yield call


@dataclass
class _Session:
    """The state that the readers of both programs share."""

    path: Path
    query_id: str | None
    name: str = ""
    project: str = ""
    begun: datetime | None = None

    def call(
        self, agent: str, identity: str, start: datetime, end: datetime, **more: Any
    ) -> tuple[int, dict[str, Any]]:
        self.begun = self.begun or start
        number = number_of(identity)
        return number, {
            "kind": "call",
            "query_id": self.query_id or f"{agent}: {Path(self.project).name or self.path.parent.name}",
            "run_id": self.begun.isoformat(),
            "interaction_id": str(uuid7(int(start.timestamp() * 1_000_000) * 1000, number)),
            "time": start.isoformat(),
            "start_time": start.isoformat(),
            "end_time": end.isoformat(),
            "duration_ms": max((end - start).total_seconds() * 1000, 0.0),
            "success": True,
            "response_id": identity[:500],
            "metadata": {"imported_from": agent, "session_id": self.name or self.path.stem},
            **more,
        }


class _Codex(_Session):
    """Reads a rollout file: items, then the usage of the call that they belong to."""

    def calls(self, lines: Iterable[Mapping[str, Any]]) -> Iterator[SessionCall]:
        items: list[Any] = []
        output_from = 0  # the index of the first item of the output
        model, provider, instructions = "unknown", "openai", None
        total: Mapping[str, Any] | None = None
        last_moment: datetime | None = None
        for line in lines:
            payload, moment = mapping_of(line.get("payload")), moment_of(line.get("timestamp"))
            kind = line.get("type")
            if kind == "session_meta":
                self.name, self.project = str(payload.get("id") or ""), str(payload.get("cwd") or "")
                provider = str(payload.get("model_provider") or provider)
                instructions = payload.get("instructions") or payload.get("base_instructions")
                last_moment = moment or last_moment
            elif kind == "turn_context":
                model = str(payload.get("model") or model)
            elif kind == "compacted":
                items = [{"type": "compaction", "content": str(payload.get("message"))}]
                output_from, last_moment = len(items), moment or last_moment
            elif kind == "response_item":
                items.append(payload)
                if not _is_codex_output(payload):
                    output_from, last_moment = len(items), moment or last_moment
            elif kind == "event_msg" and payload.get("type") == "token_count" and moment is not None:
                info = mapping_of(payload.get("info"))
                running = mapping_of(info.get("total_token_usage"))
                usage = mapping_of(info.get("last_token_usage")) or _less(running, total)
                if not usage or running == total:
                    continue  # a notification of rate limits, or a repeated event
                total = running
                number, event = self.call(
                    "codex",
                    f"{self.name or self.path.stem}:{running.get('total_tokens')}:{moment.isoformat()}",
                    last_moment or moment,
                    moment,
                    model=model,
                    provider=provider,
                    api="responses",
                    usage=_codex_usage(usage),
                )
                body = {"model": model, "instructions": instructions, "input": items[:output_from]}
                yield SessionCall(number, event, body, "responses")
                output_from, last_moment = len(items), moment


@dataclass
class _Reply:
    """A response of Claude, collected from the lines of its blocks."""

    identity: str
    parent: str | None
    start: datetime | None
    end: datetime
    model: str
    usage: Mapping[str, Any]
    stop: Any = None
    tools: int = 0
    is_sidechain: bool = False


@dataclass
class _Claude(_Session):
    """Reads a file of Claude Code, in which each line refers to the previous one."""

    turns: dict[str, tuple[str | None, Mapping[str, Any], datetime | None]] = field(default_factory=dict)

    def calls(self, lines: Iterable[Mapping[str, Any]]) -> Iterator[SessionCall]:
        replies: dict[str, _Reply] = {}
        newest = None  # the response of the last line of a message
        for line in lines:
            message, moment = mapping_of(line.get("message")), moment_of(line.get("timestamp"))
            self.name = self.name or str(line.get("sessionId") or "")
            self.project = self.project or str(line.get("cwd") or "")
            if not message or line.get("type") not in ("user", "assistant"):
                continue
            parent = line.get("parentUuid")
            parent = parent if isinstance(parent, str) else None
            if isinstance(line.get("uuid"), str):
                self.turns[line["uuid"]] = parent, message, moment
            newest = None
            usage = mapping_of(message.get("usage"))
            model = str(message.get("model") or "unknown")
            if not usage or moment is None or model == "<synthetic>":  # written by the program, not by a model
                continue
            identity = f"{message.get('id') or line.get('uuid')}:{line.get('requestId') or ''}"
            known = replies.get(identity)
            if known is None:
                start = self.turns[parent][2] if parent in self.turns else None
                known = replies[identity] = _Reply(identity, parent, start, moment, model, usage)
                known.is_sidechain = line.get("isSidechain") is True
            newest = identity
            known.end, known.usage, known.stop = moment, usage, message.get("stop_reason") or known.stop
            known.tools += sum(block.get("type") == "tool_use" for block in _blocks(message))
        if newest is not None and replies[newest].stop is None and _is_fresh(self.path):
            del replies[newest]  # more of it may follow; the next import reads it
        for reply in replies.values():
            yield self._finished(reply)

    def _finished(self, reply: _Reply) -> SessionCall:
        number, event = self.call(
            "claude-code",
            reply.identity,
            reply.start or reply.end,
            reply.end,
            model=reply.model,
            provider="anthropic",
            api="messages",
            usage=dict(reply.usage),
            service_tier=text_of(reply.usage.get("service_tier")),
            finish_reason=text_of(reply.stop),
            tool_call_count=reply.tools,
            has_tool_calls=reply.tools > 0,
            current_depth=1 if reply.is_sidechain else 0,
        )
        return SessionCall(number, event, {"messages": self._conversation(reply.parent)}, "chat.completions")

    def _conversation(self, last: str | None) -> list[dict[str, Any]]:
        """Return the messages up to a line, oldest first; the blocks of one response are one message."""
        found: list[dict[str, Any]] = []
        visited: set[str] = set()
        response = None
        while last in self.turns and last not in visited:
            visited.add(last)
            last, message, _ = self.turns[last]
            parts = [_part(block) for block in _blocks(message)]
            if found and response is not None and message.get("id") == response:
                found[-1]["content"] = parts + found[-1]["content"]
            else:
                found.append({"role": str(message.get("role") or "user"), "content": parts})
            response = message.get("id")
        return found[::-1]


def _is_fresh(path: Path) -> bool:
    """Return True if the session may still be running."""
    return time.time() - path.stat().st_mtime < _FRESH_S


def _is_codex_output(item: Mapping[str, Any]) -> bool:
    return item.get("type") in _CODEX_OUTPUT or (item.get("type") == "message" and item.get("role") == "assistant")


def _codex_usage(usage: Mapping[str, Any]) -> dict[str, Any]:
    """Return the usage of Codex with the names of the Responses API."""
    found: dict[str, Any] = {
        "input_tokens": usage.get("input_tokens"),
        "input_tokens_details": {"cached_tokens": usage.get("cached_input_tokens")},
        "output_tokens": usage.get("output_tokens"),
        "output_tokens_details": {"reasoning_tokens": usage.get("reasoning_output_tokens")},
        "total_tokens": usage.get("total_tokens"),
    }
    if (written := usage.get("cache_write_input_tokens")) is not None:
        found["input_tokens_details"]["cache_write_tokens"] = written
    return found


def _less(running: Mapping[str, Any], before: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the usage between two running totals. If the total was reset, it is the usage itself."""
    earlier = {name: value for name, value in (before or {}).items() if isinstance(value, int)}
    found = {name: value - earlier.get(name, 0) for name, value in running.items() if isinstance(value, int)}
    return {**running} if any(value < 0 for value in found.values()) else found


def _blocks(message: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    content = message.get("content")
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [block for block in content if isinstance(block, Mapping)] if isinstance(content, list) else []


def _part(block: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a block of content to a text part of a chat message."""
    if block.get("type") == "text" and isinstance(block.get("text"), str):
        return {"type": "text", "text": block["text"]}
    kept = {name: value for name, value in block.items() if name != "signature"}
    return {"type": "text", "text": json.dumps(kept, sort_keys=True, default=str)}


def _decoded(text: str) -> Mapping[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, Mapping) else None
