"""Find the result types that public methods return: the typed dictionaries, and those inside them."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from typing import Any

import rlm_cachetrack
from rlm_cachetrack import QueryRun, TimescaleDBClient

_WITHOUT = ("cli", "integrations", "__main__")  # import other packages, and define no results


def typed_dicts() -> dict[str, Any]:
    """Return every typed dictionary of the package by name."""
    found: dict[str, Any] = {}
    for module in pkgutil.walk_packages(rlm_cachetrack.__path__, "rlm_cachetrack."):
        if module.name.split(".")[1] in _WITHOUT:
            continue
        loaded = importlib.import_module(module.name)
        found |= {
            name: value
            for name, value in vars(loaded).items()
            if hasattr(value, "__required_keys__") and value.__module__ == module.name
        }
    return found


def methods() -> Iterator[tuple[str, str]]:
    """Yield each public method of the client and of a run, and the text of its return type."""
    for owner in (TimescaleDBClient, QueryRun):
        for name, method in inspect.getmembers(owner, inspect.isfunction):
            if not name.startswith("_"):
                returned = inspect.signature(method).return_annotation
                yield f"{owner.__name__}.{name}", returned if isinstance(returned, str) else ""


def keys_of(result: Any) -> dict[str, str]:
    """Return the keys of a typed dictionary and their types as text, those of its bases included."""
    found: dict[str, str] = {}
    for base in getattr(result, "__orig_bases__", ()):
        if hasattr(base, "__required_keys__"):
            found |= keys_of(base)
    for name, annotation in result.__annotations__.items():
        found[name] = (
            annotation
            if isinstance(annotation, str)
            else getattr(annotation, "__forward_arg__", None)
            or (annotation.__name__ if isinstance(annotation, type) else str(annotation))
        )
    return found


def named_in(text: str, known: dict[str, Any]) -> list[str]:
    """Return the typed dictionaries that the text of a type names, in order."""
    return [name for name in dict.fromkeys(re.findall(r"\w+", text)) if name in known]


def result_types() -> dict[str, list[str]]:
    """Return the names of the result types, in order of use, each with the methods that return it directly."""
    known = typed_dicts()
    found: dict[str, list[str]] = {}
    for method, returned in methods():
        for name in named_in(returned, known):
            found.setdefault(name, []).append(method)
    waiting = list(found)
    while waiting:
        for annotation in keys_of(known[waiting.pop(0)]).values():
            for name in named_in(annotation, known):
                if name not in found:
                    found[name] = []
                    waiting.append(name)
    return found
