"""A module that one of our threads imports is not seen half done by the program's."""

from __future__ import annotations

import importlib
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from rlm_cachetrack._process.import_wait import waited_for

SOURCE = """
import sys
signals = sys.modules["signals_of_the_test"]
early = 1
signals.begun.set()
assert signals.go_on.wait(30)
from . import inner
late = inner.value
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A package ``slow_to_import``, and the signals that its import gives and waits for."""
    (tmp_path / "slow_to_import").mkdir()
    (tmp_path / "slow_to_import" / "__init__.py").write_text(SOURCE, encoding="utf-8")
    (tmp_path / "slow_to_import" / "inner.py").write_text("value = 2\n", encoding="utf-8")
    signals: Any = ModuleType("signals_of_the_test")
    signals.begun, signals.go_on = threading.Event(), threading.Event()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(sys.modules, "signals_of_the_test", signals)
    yield signals
    for name in ("slow_to_import", "slow_to_import.inner"):
        sys.modules.pop(name, None)


def test_what_a_module_lacks_yet_is_waited_for(package: Any) -> None:
    def bring_in() -> None:
        with waited_for("slow_to_import"):
            importlib.import_module("slow_to_import")

    importing = threading.Thread(target=bring_in)
    importing.start()
    assert package.begun.wait(30)
    module = sys.modules["slow_to_import"]
    assert module.early == 1
    threading.Timer(0.1, package.go_on.set).start()
    assert module.late == 2  # an AttributeError without us
    importing.join(30)
    assert type(module) is ModuleType
    assert "__importing__" not in vars(module)
    assert module.__spec__ is not None
    assert type(module.__spec__.loader).__name__ == type(module.__loader__).__name__ == "SourceFileLoader"
    with pytest.raises(AttributeError, match="nothing"):
        _ = module.nothing


def test_no_trace_is_left_where_the_module_is_there_or_never_comes() -> None:
    before = list(sys.meta_path)
    with waited_for("json"), waited_for("no_module_of_this_name"):
        import json
    assert sys.meta_path == before
    assert type(json) is ModuleType


def test_an_import_that_fails_lets_go_of_who_waits(package: Any, tmp_path: Path) -> None:
    (tmp_path / "slow_to_import" / "inner.py").write_text("raise ValueError('broken')\n", encoding="utf-8")
    failed: list[BaseException] = []

    def bring_in() -> None:
        try:
            with waited_for("slow_to_import"):
                importlib.import_module("slow_to_import")
        except ValueError as exc:
            failed.append(exc)

    importing = threading.Thread(target=bring_in)
    importing.start()
    assert package.begun.wait(30)
    module = sys.modules["slow_to_import"]
    threading.Timer(0.1, package.go_on.set).start()
    with pytest.raises(AttributeError, match="late"):
        _ = module.late
    importing.join(30)
    assert len(failed) == 1
