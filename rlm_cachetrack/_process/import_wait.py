"""Imports on threads of ours of modules that the program's threads look at meanwhile.

``openai`` 2.x asks ``sys.modules`` for ``httpx2`` in every call and takes attributes of what it finds, also where
another thread is in the middle of importing it; ``genai-prices`` imports it, on the writer's thread. Without what is
here the program's call would raise ``AttributeError``.

Source: ``openai/_httpx2.py`` of openai 2.54.0, ``genai_prices/update_prices.py`` of genai-prices 0.2.3, 2026-11-28.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

__all__ = ["waited_for"]

_LONGEST_S = 30.0


@contextmanager
def waited_for(name: str) -> Iterator[None]:
    """While this lasts, whoever looks at the module ``name`` before it is wholly imported waits until it is.

    For as long as its import takes, and 30 seconds at most. The thread that imports it sees it as it is.
    """
    if name in sys.modules:
        yield
        return
    finder = _Finder(name)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _Unfinished(ModuleType):
    """A module that is being imported: what it lacks yet is waited for."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        vars(self)["__importing__"] = (threading.get_ident(), threading.Event())

    def __getattr__(self, name: str) -> Any:
        importing = vars(self).get("__importing__")
        if importing is not None and importing[0] != threading.get_ident() and not name.startswith("__"):
            importing[1].wait(_LONGEST_S)
        if name in vars(self):
            return vars(self)[name]
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, name: str) -> None:
        self._name = name

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._name:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(importlib.abc.Loader):
    def __init__(self, loader: importlib.abc.Loader) -> None:
        self._loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return _Unfinished(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        _, imported = vars(module)["__importing__"]
        try:
            self._loader.exec_module(module)
        finally:
            del vars(module)["__importing__"]
            module.__class__ = ModuleType
            imported.set()
