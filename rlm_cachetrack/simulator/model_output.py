"""The output of the simulated model: text from a few words, function calls, values that fit a JSON schema."""

from __future__ import annotations

import json
import math
import os
import random
import re
from dataclasses import dataclass, field

from .prompt import TOKEN_CHARS
from .request import Json, Reply, get_array, get_object, requested_format

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
class ModelOutput:
    """An output: text, or function calls as (id, name, arguments)."""

    text: str = ""
    calls: list[tuple[str, str, str]] = field(default_factory=list)
    reasoning_tokens: int = 0
    is_complete: bool = True

    @property
    def tokens(self) -> int:
        """Return the tokens of the output, including reasoning."""
        parts = [self.text, *(name + arguments for _, name, arguments in self.calls)]
        return sum(math.ceil(len(part) / TOKEN_CHARS) for part in parts) + self.reasoning_tokens

    @property
    def finish_reason(self) -> str:
        """Return the reason why the model stopped, as the chat API names it."""
        return "length" if not self.is_complete else "tool_calls" if self.calls else "stop"


def compose(body: Json, model: str, last_role: str, rng: random.Random, reply: Reply) -> ModelOutput:
    """Make the output: the scripted one if the reply has one, else a random one from ``rng``."""
    specs = [
        get_object(tool, "function") or tool for tool in get_array(body, "tools") if tool.get("type") == "function"
    ]
    functions = {str(spec.get("name")): get_object(spec, "parameters") for spec in specs}
    output_format = requested_format(body)
    if names := reply.tool_calls or _functions_to_call(functions, body.get("tool_choice"), last_role, rng, reply):
        calls = [(new_id("call_"), name, _sample(functions.get(name, {"type": "object"}))) for name in names]
        output = ModelOutput(calls=calls)
    elif reply.text is not None:
        output = ModelOutput(reply.text)
    elif output_format is not None:
        spec = get_object(output_format, "json_schema") or output_format
        output = ModelOutput(_sample(get_object(spec, "schema") or {"type": "object"}))
    else:
        output = ModelOutput(" ".join(rng.choices(_WORDS, k=rng.randint(30, 90))))
    effort = body.get("reasoning_effort") or get_object(body, "reasoning").get("effort")
    reasoning_tokens = 64 * rng.randint(0, 4) if _REASONS.match(model) and effort not in ("none", "minimal") else 0
    limit = body.get("max_completion_tokens") or body.get("max_output_tokens") or body.get("max_tokens")
    if limit is not None:
        if output.tokens > limit and not output.calls:
            output.text, output.is_complete = output.text[: limit * TOKEN_CHARS], False
        reasoning_tokens = max(0, min(reasoning_tokens, limit - output.tokens))
    output.reasoning_tokens = reasoning_tokens
    return output


def _functions_to_call(
    functions: Json, choice: object, last_role: str, rng: random.Random, reply: Reply
) -> tuple[str, ...]:
    """Choose the functions to call: the required one, else one after half of the user messages."""
    if not functions or choice == "none" or reply.text is not None:
        return ()
    if isinstance(choice, dict) and choice.get("type") == "function":
        return (str((get_object(choice, "function") or choice).get("name")),)
    required = (choice.get("mode") if isinstance(choice, dict) else choice) == "required"
    return (rng.choice(list(functions)),) if required or (last_role == "user" and rng.random() < 0.5) else ()


def _sample(schema: Json) -> str:
    return json.dumps(_example(schema, schema))


def _example(schema: Json, root: Json, depth: int = 0) -> object:
    """Return the smallest value that fits a JSON schema, for the parts of JSON Schema that structured outputs allow."""
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
        # A recursive type ends where it may be null.
        ordered = sorted(options, key=lambda option: (option.get("type") == "null") == (depth < 8))
        return _example(ordered[0], root, depth + 1)
    value_type = schema.get("type")
    if isinstance(value_type, list):
        value_type = value_type[0]
    if value_type == "object":
        properties, required = schema.get("properties") or {}, schema.get("required") or ()
        return {name: _example(properties.get(name, {}), root, depth + 1) for name in required}
    if value_type == "array":
        items = schema.get("items") or {}
        return [_example(items, root, depth + 1) for _ in range(schema.get("minItems") or 0)]
    if value_type in ("integer", "number"):
        return schema.get("minimum", schema.get("exclusiveMinimum", 0) + 1)
    return {"boolean": True, "null": None}.get(value_type or "", _SAMPLES.get(schema.get("format", ""), "text"))


def new_id(prefix: str) -> str:
    """Return an id in OpenAI's form: the prefix and 24 random hex digits."""
    return prefix + os.urandom(12).hex()
