"""What the simulated model says: text from a few words, calls of functions, values that fit a JSON schema."""

from __future__ import annotations

import json
import math
import os
import random
import re
from dataclasses import dataclass, field

from .prompt import TOKEN_CHARS
from .request import Json, Reply, asked_format, get_array, get_object

__all__ = ["Answer", "compose", "new_id"]

_REASONS = re.compile(r"o\d|gpt-[5-9]")
_WORDS = (
    "answer",
    "source",
    "prefix",
    "context",
    "reads",
    "keeps",
    "every",
    "step",
    "before",
    "result",
    "and",
)
_SAMPLES = {"date-time": "2025-01-01T00:00:00Z", "date": "2025-01-01", "time": "00:00:00"}


@dataclass(slots=True)
class Answer:
    """What the simulated model says: text, or calls of functions as (id, name, arguments)."""

    text: str = ""
    calls: list[tuple[str, str, str]] = field(default_factory=list)
    reasoning_tokens: int = 0
    complete: bool = True

    @property
    def tokens(self) -> int:
        """Tokens of the output, reasoning included."""
        said = [self.text, *(name + arguments for _, name, arguments in self.calls)]
        return sum(math.ceil(len(part) / TOKEN_CHARS) for part in said) + self.reasoning_tokens

    @property
    def finish_reason(self) -> str:
        """Why the model stopped, as the chat API names it."""
        return "length" if not self.complete else "tool_calls" if self.calls else "stop"


def compose(body: Json, model: str, last_role: str, rng: random.Random, reply: Reply) -> Answer:
    """What the model answers, as the reply scripted for it has it, else by ``rng``."""
    specs = [
        get_object(tool, "function") or tool for tool in get_array(body, "tools") if tool.get("type") == "function"
    ]
    functions = {str(spec.get("name")): get_object(spec, "parameters") for spec in specs}
    output_format = asked_format(body)
    if names := reply.tool_calls or _called(functions, body.get("tool_choice"), last_role, rng, reply):
        calls = [(new_id("call_"), name, _sample(functions.get(name, {"type": "object"}))) for name in names]
        answer = Answer(calls=calls)
    elif reply.text is not None:
        answer = Answer(reply.text)
    elif output_format is not None:
        spec = get_object(output_format, "json_schema") or output_format
        answer = Answer(_sample(get_object(spec, "schema") or {"type": "object"}))
    else:
        answer = Answer(" ".join(rng.choices(_WORDS, k=rng.randint(30, 90))))
    effort = body.get("reasoning_effort") or get_object(body, "reasoning").get("effort")
    thought = 64 * rng.randint(0, 4) if _REASONS.match(model) and effort not in ("none", "minimal") else 0
    limit = body.get("max_completion_tokens") or body.get("max_output_tokens") or body.get("max_tokens")
    if limit is not None:
        if answer.tokens > limit and not answer.calls:
            answer.text, answer.complete = answer.text[: limit * TOKEN_CHARS], False
        thought = max(0, min(thought, limit - answer.tokens))
    answer.reasoning_tokens = thought
    return answer


def _called(functions: Json, choice: object, last_role: str, rng: random.Random, reply: Reply) -> tuple[str, ...]:
    """The functions that the model calls: the one it must; else one, every other time a user has spoken."""
    if not functions or choice == "none" or reply.text is not None:
        return ()
    if isinstance(choice, dict) and choice.get("type") == "function":
        return (str((get_object(choice, "function") or choice).get("name")),)
    required = (choice.get("mode") if isinstance(choice, dict) else choice) == "required"
    return (rng.choice(list(functions)),) if required or (last_role == "user" and rng.random() < 0.5) else ()


def _sample(schema: Json) -> str:
    return json.dumps(_example(schema, schema))


def _example(schema: Json, root: Json, depth: int = 0) -> object:
    """The smallest value that fits a JSON schema, as far as structured outputs use schemas."""
    if isinstance(reference := schema.get("$ref"), str):
        target: Json = root
        for name in reference.removeprefix("#").split("/")[1:]:
            target = target.get(name, {})
        return _example(target, root, depth + 1) if depth < 32 else None
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    if options := schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf"):
        # A type that contains itself ends where it may be null.
        ordered = sorted(options, key=lambda option: (option.get("type") == "null") == (depth < 8))
        return _example(ordered[0], root, depth + 1)
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = kind[0]
    if kind == "object":
        properties, required = schema.get("properties") or {}, schema.get("required") or ()
        return {name: _example(properties.get(name, {}), root, depth + 1) for name in required}
    if kind == "array":
        items = schema.get("items") or {}
        return [_example(items, root, depth + 1) for _ in range(schema.get("minItems") or 0)]
    if kind in ("integer", "number"):
        return schema.get("minimum", schema.get("exclusiveMinimum", 0) + 1)
    return {"boolean": True, "null": None}.get(kind or "", _SAMPLES.get(schema.get("format", ""), "text"))


def new_id(prefix: str) -> str:
    """An id as OpenAI's: the prefix and 24 random hex digits."""
    return prefix + os.urandom(12).hex()
