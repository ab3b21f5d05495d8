"""Parse the YAML of a pricing file into plain data with line numbers.

YAML's own numbers, dates and booleans are not used, because YAML reads 010 as 8 and 1:30 as 90. Every scalar is kept as
its text, and the field that receives it converts it. YAML tags never construct objects.
"""

from __future__ import annotations

import contextlib
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from rlm_cachetrack.errors import PricingError

_MAX_DEPTH = 12


class Text(str):
    """A scalar as it was written."""

    plain: bool
    """True if the scalar has no quotes, so that it can be a number."""
    null: bool

    __slots__ = ("null", "plain")

    @classmethod
    def of(cls, node: ScalarNode) -> Text:
        """Return the text of a node."""
        text = cls(node.value)
        text.plain = not node.style
        text.null = node.tag.endswith(":null")
        return text


class Table(dict[str, Any]):
    """A mapping with the line number of each key."""

    __slots__ = ("lines",)

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[str, int] = {}


class Values(list[Any]):
    """A list with the line number of each element."""

    __slots__ = ("lines",)

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[int] = []


class Mistakes:
    """The mistakes of a file, collected so that all of them are reported at once.

    Args:
        file: The path that messages start with.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self._lines: dict[str, int] = {}

    def add(self, line: int, key: str, found: str, expected: str) -> None:
        """Add a mistake; adding it twice reports it once.

        Args:
            line: The line number, from 1.
            key: The dotted key.
            found: A predicate such as ``is -1``.
            expected: What is allowed instead.
        """
        self._lines.setdefault(f"{self.file}:{line}: {key}: {found}; expected {expected}", line)

    def raise_if_any(self) -> None:
        """Raise an error if there is a mistake.

        Raises:
            PricingError: One line per mistake, in the order of the file.
        """
        if self._lines:
            raise PricingError("\n".join(sorted(self._lines, key=self._lines.__getitem__)))


def read_yaml(data: bytes, mistakes: Mistakes) -> tuple[Any, int]:
    """Return the data as :class:`Table`, :class:`Values` and :class:`Text`, and the line where it starts.

    Raises:
        PricingError: The file is not valid YAML.
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
    node: Node | None
    with contextlib.suppress(yaml.YAMLError):  # the pure Python loader below describes a mistake better
        node = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        return node
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
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
        self._built: dict[int, Any] = {}  # by node id: a node that anchors repeat is built once

    def build(self, node: Node, where: str, depth: int) -> Any:
        if id(node) in self._built:
            return self._built[id(node)]
        if depth > _MAX_DEPTH:
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
        if not isinstance(node, ScalarNode):  # PyYAML has no fourth node type
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
                self._mistakes.add(
                    line, f"{prefix}{key.value}", f"is already defined on line {first}", "one definition"
                )
            else:
                table[key.value] = self.build(value, f"{prefix}{key.value}", depth + 1)
                table.lines[key.value] = line
        return table


def shown(value: object) -> str:
    """Return a value as it is written, shortened to 40 characters."""
    if not isinstance(value, str):
        return "a mapping" if isinstance(value, dict) else "a list"
    text = value if len(value) <= 40 else f"{value[:37]}..."
    if isinstance(value, Text) and not value.plain:
        return f'the text "{text}"'
    return text or "empty"
