"""Write one entry of a pricing file, and keep everything else as it is: comments, order and style."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode

from rlm_cachetrack.errors import PricingError

from .schema import PER

# Text that needs no quotes in YAML, neither in a block nor between braces.
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./@+-]*")
_EMPTY_FILE = "version: 1\nper: 1M\nmodels:\n"
_LARGEST_UNIT = 1_000_000
# Factors, and prices of one use, which do not depend on the number of tokens that prices are for.
_WITHOUT_UNIT = re.compile(r"(tools|regions|windows|speeds)\..*|per_\w+|tiers\.\w+")

Values = Mapping[str, float | str]
"""Values by key; ``tiers.flex`` is a key in another mapping. Numbers: USD per 1M tokens or for one use, or factors."""


def with_entry(text: str, model: str, values: Values, provider: str | None = None, *, is_listed: bool = False) -> str:
    """Return the text of a pricing file with values of a model set; other values of its entry stay.

    Args:
        text: The file; empty for a new one.
        model: The key under ``models``.
        values: The values to set.
        provider: The provider of a new entry; None: any.
        is_listed: Whether the model has a price without the entry. A new entry without token prices then inherits them.

    Raises:
        PricingError: The entry of the model has another form, which must be edited by hand.
    """
    if not text.strip():
        text = _EMPTY_FILE
    models = _get(_root(text), "models")
    entry = _get(models, model) if isinstance(models, MappingNode) else None
    if entry is None:
        if is_listed and values.keys().isdisjoint(("prompt", "completion", "inherit", "alias")):
            values = {"inherit": model, **values}
        return _with_new_entry(text, models, model, values, provider)
    if not isinstance(entry, MappingNode):
        raise PricingError(f"{model} has several entries, by period or provider; edit the one that you mean by hand")
    if _get(entry, "alias") is not None:
        raise PricingError(f"{model} is an alias in the file; edit its entry by hand")
    known = _get(entry, "provider")
    if provider is not None and isinstance(known, ScalarNode) and known.value != provider:
        raise PricingError(f"the entry of {model} is for {known.value}; edit it by hand to add one for {provider}")
    unit = _unit(text, entry)
    for name, value in values.items():
        path = name.split(".")
        shown = _value(value, _LARGEST_UNIT if _WITHOUT_UNIT.fullmatch(name) else unit)
        text = _with_value(text, ["models", model, *path], shown)
    return text


def _root(text: str) -> MappingNode:
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(root, MappingNode):
        raise PricingError("the pricing file is not a mapping with version, per and models")
    return root


def _get(node: Node | None, key: str) -> Node | None:
    if isinstance(node, MappingNode):
        for found, value in node.value:
            if isinstance(found, ScalarNode) and found.value == key and isinstance(value, Node):
                return value
    return None


def _unit(text: str, entry: MappingNode | None) -> int:
    """Return the number of tokens that the prices of an entry are for."""
    for node in (entry, _root(text)):
        per = _get(node, "per")
        if isinstance(per, ScalarNode):
            return PER.get(per.value.upper(), _LARGEST_UNIT)
    return _LARGEST_UNIT


def _value(value: float | str, unit: int) -> str:
    """Return a value as YAML; a price in USD per 1M tokens is converted to another unit."""
    if isinstance(value, str):
        return _quoted(value)
    number = round(value * unit / _LARGEST_UNIT, 15)
    return f"{number:.15f}".rstrip("0").rstrip(".")


def _quoted(text: str) -> str:
    return text if _PLAIN.fullmatch(text) else json.dumps(text)


def _with_new_entry(text: str, models: Node | None, model: str, values: Values, provider: str | None) -> str:
    nested: dict[str, dict[str, str]] = {}
    parts = [] if provider is None else [f"provider: {_quoted(provider)}"]
    if _unit(text, None) != _LARGEST_UNIT and not all(_WITHOUT_UNIT.fullmatch(name) for name in values):
        parts.append("per: 1M")
    for name, value in values.items():
        outer, dot, inner = name.partition(".")
        if dot:
            nested.setdefault(outer, {})[inner] = _value(value, _LARGEST_UNIT)
        else:
            parts.append(f"{name}: {_value(value, _LARGEST_UNIT)}")
    for outer, inner_values in nested.items():
        parts.append(f"{outer}: {{{', '.join(f'{key}: {shown}' for key, shown in inner_values.items())}}}")
    line = f"{_quoted(model)}: {{{', '.join(parts)}}}"
    if models is None:
        return f"{text.rstrip()}\nmodels:\n  {line}\n"
    if not isinstance(models, MappingNode):  # the key without a value
        at = _end_of_line(text, _key_end(text, "models"))
        return f"{text[:at]}\n  {line}{text[at:]}"
    return _inserted(text, models, line)


def _with_value(text: str, path: list[str], shown: str) -> str:
    """Return the text with the value at a path replaced, or added to the mapping that has the rest of the path."""
    node: Node | None = _root(text)
    for index, key in enumerate(path):
        inner = _get(node, key)
        if inner is None:
            for outer in reversed(path[index + 1 :]):
                shown = f"{{{outer}: {shown}}}"
            if not isinstance(node, MappingNode):
                raise PricingError(f"{'.'.join(path[1:index])} is not a mapping; edit it by hand")
            return _inserted(text, node, f"{_quoted(key)}: {shown}")
        node = inner
    if not isinstance(node, ScalarNode):
        raise PricingError(f"{'.'.join(path[1:])} is not a single value; edit it by hand")
    return text[: node.start_mark.index] + shown + text[node.end_mark.index :]


def _inserted(text: str, mapping: MappingNode, line: str) -> str:
    """Return the text with one more key and value at the end of a mapping."""
    if mapping.flow_style:
        at = mapping.end_mark.index - 1
        inside = text[mapping.start_mark.index + 1 : at].rstrip()
        before = "" if not mapping.value else " " if inside.endswith(",") else ", "
        end = mapping.start_mark.index + 1 + len(inside)
        return f"{text[:end]}{before}{line}{text[end:]}"
    at = _end_of_line(text, _last_index(mapping))
    indent = " " * mapping.value[0][0].start_mark.column
    return f"{text[:at]}\n{indent}{line}{text[at:]}"


def _last_index(node: Node) -> int:
    """Return where the last value within a node ends. A block's end mark comes after the comments that follow it."""
    if isinstance(node, (MappingNode, yaml.SequenceNode)) and not node.flow_style and node.value:
        last = node.value[-1]
        return _last_index(last[1] if isinstance(last, tuple) else last)
    return node.end_mark.index


def _end_of_line(text: str, index: int) -> int:
    end = text.find("\n", index)
    return len(text) if end < 0 else end


def _key_end(text: str, key: str) -> int:
    for found, _ in _root(text).value:
        if isinstance(found, ScalarNode) and found.value == key:
            return found.end_mark.index
    return len(text)
