"""One log line lists the calls of a loaded framework that are not recorded, and the code that records them."""

from __future__ import annotations

import importlib.util
import logging
import subprocess
import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
from openai import OpenAI

from rlm_cachetrack import flush, instrument, stats, uninstrument
from rlm_cachetrack.capture import active_integrations, framework_hints
from rlm_cachetrack.pipeline import runtimes
from tests.support.memory import MemorySink

LOADED = {
    "litellm": (["litellm", "litellm.main"], "rlm_cachetrack.integrations.litellm import track; track()"),
    "dspy": (["dspy", "dspy.clients.engines.lm15_engine"], "rlm_cachetrack.integrations.dspy import track; track()"),
    "crewai": (["crewai", "crewai.llms.providers.gemini.completion"], "track(); crewai.LLM(..., is_litellm=True)"),
    "smolagents": (["smolagents", "huggingface_hub.inference._client"], "track(); smolagents.LiteLLMModel(...)"),
    "openai-agents": (
        ["agents", "agents.models.openai_responses"],
        "rlm_cachetrack.integrations.openai_agents import track; track()",
    ),
    "rlms": (["rlm", "rlm.core.rlm"], "rlm_cachetrack.integrations.rlm import track; rlm = track(RLM(...))"),
}
INTEGRATIONS = {"litellm": "litellm", "dspy": "dspy", "openai-agents": "openai_agents", "rlms": "rlm"}
RECORDED_BY_THE_SDK = {"dspy": ["dspy"], "crewai": ["crewai"], "smolagents": ["smolagents"]}


@pytest.fixture(autouse=True)
def first_look(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Begin without a loaded framework; a framework that was seen once is due at the next look."""
    monkeypatch.setattr(framework_hints, "_announced", set())
    monkeypatch.setattr(framework_hints, "_first_seen", {})
    monkeypatch.setattr(framework_hints, "active_integrations", set())
    monkeypatch.setattr(framework_hints, "_GRACE_S", 0.0)
    for modules, _ in LOADED.values():
        for module in modules:
            monkeypatch.delitem(sys.modules, module, raising=False)
    with caplog.at_level(logging.WARNING, logger="rlm_cachetrack"):
        yield


def load(monkeypatch: pytest.MonkeyPatch, modules: list[str]) -> None:
    for name in modules:
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))


def write_litellm(folder: Path, code: str = "") -> None:
    """Write a package with the modules of LiteLLM, which runs the code when it is imported."""
    package = folder / "litellm"
    package.mkdir()
    (package / "main.py").touch()
    (package / "__init__.py").write_text(f"from . import main\n{code}")


def hints(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "track(" in record.getMessage()]


@pytest.mark.parametrize("name", LOADED)
def test_a_framework_that_is_loaded_later_is_logged_once(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    modules, line = LOADED[name]
    instrument(store=MemorySink())
    flush(5)
    assert hints(caplog) == []
    load(monkeypatch, modules)
    flush(5)
    flush(5)
    (hint,) = hints(caplog)
    assert "recorded" in hint
    assert hint.endswith(line)


@pytest.mark.parametrize("name", LOADED)
def test_a_framework_that_was_loaded_before_is_logged(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    load(monkeypatch, LOADED[name][0])
    instrument(store=MemorySink())
    flush(5)
    assert len(hints(caplog)) == 1


@pytest.mark.parametrize("name", INTEGRATIONS)
def test_a_tracked_framework_is_not_logged(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    instrument(store=MemorySink())
    load(monkeypatch, LOADED[name][0])
    framework_hints.active_integrations.add(INTEGRATIONS[name])
    flush(5)
    assert hints(caplog) == []
    framework_hints.active_integrations.clear()
    flush(5)
    assert len(hints(caplog)) == 1


@pytest.mark.parametrize("name", RECORDED_BY_THE_SDK)
def test_a_framework_that_uses_only_the_sdk_is_not_logged(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    load(monkeypatch, RECORDED_BY_THE_SDK[name])
    instrument(store=MemorySink())
    flush(5)
    assert hints(caplog) == []


def test_a_dspy_program_that_uses_litellm_gets_one_hint(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    load(monkeypatch, [*LOADED["litellm"][0], *LOADED["dspy"][0]])
    instrument(store=MemorySink())
    flush(5)
    flush(5)
    assert [hint.partition(" ")[0] for hint in hints(caplog)] == ["DSPy"]


def test_a_program_that_records_one_client_gets_no_hint(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with OpenAI(api_key="sk-test") as client:
        instrument(client, store=MemorySink())
        load(monkeypatch, LOADED["litellm"][0])
        flush(5)
    assert hints(caplog) == []


def test_nothing_is_logged_after_uninstrument(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    instrument(store=MemorySink())
    uninstrument()
    load(monkeypatch, LOADED["litellm"][0])
    flush(5)
    assert hints(caplog) == []


def test_a_framework_counts_as_loaded_after_its_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A writer that wakes up during a long import must not log a hint that the next line makes untrue."""
    write_litellm(tmp_path, "import rlm_cachetrack\nrlm_cachetrack.flush(5)\nrlm_cachetrack.flush(5)\n")
    monkeypatch.syspath_prepend(tmp_path)
    instrument(store=MemorySink())
    import litellm  # noqa: F401

    assert hints(caplog) == []
    flush(5)
    assert len(hints(caplog)) == 1


def test_a_lazy_module_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DSPy makes litellm a module that is imported when one of its attributes is read."""
    write_litellm(tmp_path, "raise SystemError('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    spec = importlib.util.find_spec("litellm")
    assert spec is not None
    assert spec.loader is not None
    spec.loader = importlib.util.LazyLoader(spec.loader)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "litellm", module)
    monkeypatch.setitem(sys.modules, "litellm.main", types.ModuleType("litellm.main"))
    spec.loader.exec_module(module)
    instrument(store=MemorySink())
    before = stats()["internal_errors"]
    flush(5)
    assert stats()["internal_errors"] == before
    with pytest.raises(SystemError, match="imported"):
        module.completion  # noqa: B018


def test_the_line_after_an_import_has_time_to_run(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(framework_hints, "_GRACE_S", 1_000.0)
    load(monkeypatch, LOADED["litellm"][0])
    instrument(store=MemorySink())
    flush(5)
    flush(5)
    assert hints(caplog) == []


def test_the_writer_looks_when_a_call_wakes_it_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    load(monkeypatch, LOADED["litellm"][0])
    instrument(store=MemorySink())
    deadline = time.monotonic() + 120
    while not hints(caplog) and time.monotonic() < deadline:
        runtimes.default().journal.wake.set()  # as an appended event does
        time.sleep(0.01)
    assert [record.threadName for record in caplog.records] == ["rlm_cachetrack-writer"]


PROGRAM = """
import rlm_cachetrack
from rlm_cachetrack.pipeline import runtimes
from tests.support.memory import MemorySink
rlm_cachetrack.instrument(store=MemorySink())
import litellm
"""


def test_a_short_program_is_told_at_its_end(tmp_path: Path) -> None:
    write_litellm(tmp_path)
    root = Path(__file__).parents[3]
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=root,
        env={"PYTHONPATH": f"{root}:{tmp_path}", "RLM_CACHETRACK_STATE_DIR": str(tmp_path), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    assert ended.stderr.count("rlm_cachetrack.integrations.litellm import track") == 1
    assert "litellm" not in active_integrations
