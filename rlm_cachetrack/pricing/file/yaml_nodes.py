"""The text of a pricing file to plain data that still knows its lines.

YAML's own numbers, dates and booleans are not wanted: it reads 010 as 8 and 1:30 as 90. Every scalar stays the text
that was written, and what it means is for the field that takes it. Nothing of the file is constructed or run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from rlm_cachetrack.errors import PricingError

__all__ = ["Mistakes", "Table", "Text", "Values", "read_yaml", "shown"]

_DEEPEST = 12


class Text(str):
    """A scalar as it was written."""

    plain: bool
    """Whether it stands without quotes, and so may be meant as a number."""
    null: bool

    __slots__ = ("null", "plain")

    @classmethod
    def of(cls, node: ScalarNode) -> Text:
        """The text of a node."""
        text = cls(node.value)
        text.plain = node.style is None
        text.null = node.tag.endswith(":null")
        return text


class Table(dict[str, Any]):
    """A mapping whose keys know their lines."""

    __slots__ = ("lines",)

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[str, int] = {}


class Values(list[Any]):
    """A list whose elements know their lines."""

    __slots__ = ("lines",)

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[int] = []


@dataclass(frozen=True, slots=True, order=True)
class _Mistake:
    line: int
    number: int
    text: str


class Mistakes:
    """What is wrong with a file: collected, so that one look shows all of it.

    Args:
        file: The name that messages begin with.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self._found: list[_Mistake] = []

    def add(self, line: int, key: str, found: str, expected: str) -> None:
        """Note one: on which line, at which key, what stands there and what was expected."""
        text = f"{self.file}:{line}: {key}: {found}; expected {expected}"
        if all(text != known.text for known in self._found):
            self._found.append(_Mistake(line, len(self._found), text))

    def raise_if_any(self) -> None:
        """Raise them all, in the order of the file.

        Raises:
            PricingError: One line a mistake.
        """
        if self._found:
            raise PricingError("\n".join(mistake.text for mistake in sorted(self._found)))


def read_yaml(data: bytes, mistakes: Mistakes) -> tuple[Any, int]:
    """What the file holds, as :class:`Table`, :class:`Values` and :class:`Text`, and its first line.

    Raises:
        PricingError: It is no YAML at all.
    """
    root = _compose(mistakes.file, data)
    if root is None:
        return None, 1
    return _Builder(mistakes).build(root, "", 0), root.start_mark.line + 1


def _compose(name: str, data: bytes) -> Node | None:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        raise PricingError(
            f"{name}:{line}: byte 0x{data[exc.start]:02x} is not UTF-8; expected a YAML file saved as UTF-8"
        ) from exc
    try:
        node: Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
        return node
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        line = mark.line + 1 if mark else 1
        context = f" {exc.context}" if exc.context else ""
        raise PricingError(
            f"{name}:{line}: not valid YAML:{context} {exc.problem}; expected `key: value` lines"
        ) from exc
    except yaml.reader.ReaderError as exc:
        line = text.count("\n", 0, exc.position) + 1
        raise PricingError(f"{name}:{line}: not valid YAML: {exc.reason}; expected plain text") from exc
    except RecursionError as exc:
        raise PricingError(f"{name}:1: nested too deeply; expected version, per and models") from exc


class _Builder:
    def __init__(self, mistakes: Mistakes) -> None:
        self._mistakes = mistakes
        self._built: dict[int, Any] = {}  # an anchor that is used a thousand times is built once

    def build(self, node: Node, where: str, depth: int) -> Any:
        if id(node) in self._built:
            return self._built[id(node)]
        if depth > _DEEPEST:
            line = node.start_mark.line + 1
            self._mistakes.add(line, where or "the file", "is nested too deeply", "version, per and models")
            return Text.of(ScalarNode("tag:yaml.org,2002:str", "…"))
        if isinstance(node, MappingNode):
            return self._table(node, where, depth)
        if isinstance(node, SequenceNode):
            values = self._built[id(node)] = Values()
            for index, item in enumerate(node.value):
                values.append(self.build(item, f"{where}[{index}]", depth + 1))
                values.lines.append(item.start_mark.line + 1)
            return values
        if not isinstance(node, ScalarNode):  # there is no fourth kind
            raise TypeError(type(node).__name__)
        value = self._built[id(node)] = Text.of(node)
        return value

    def _table(self, node: MappingNode, where: str, depth: int) -> Table:
        table = self._built[id(node)] = Table()
        prefix = f"{where}." if where else ""
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, ScalarNode) or not key.value.strip():
                self._mistakes.add(line, f"{prefix}?", "is a key without a name", "a name")
            elif key.value in table:
                first = table.lines[key.value]
                self._mistakes.add(line, f"{prefix}{key.value}", f"stands already on line {first}", "it once")
            else:
                table[key.value] = self.build(value, f"{prefix}{key.value}", depth + 1)
                table.lines[key.value] = line
        return table


def shown(value: object) -> str:
    """What stands there, as it was written and not too long."""
    if not isinstance(value, str):
        return "a mapping" if isinstance(value, dict) else "a list"
    text = value if len(value) <= 40 else f"{value[:37]}..."
    if isinstance(value, Text) and not value.plain:
        return f'the text "{text}"'
    return text or "empty"
