"""The fixture `cachetrack` in another project: a separate pytest process without a database."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROJECT = """
from openai import OpenAI
from rlm_cachetrack.simulator import SimulatedEndpoint

LONG = "All that the model must know, said at length. " * 150


def ask(cachetrack, times):
    with SimulatedEndpoint(latency=False) as endpoint, OpenAI(base_url=endpoint.base_url, api_key="k") as client:
        for step in cachetrack.iterations(range(times)):
            messages = [{"role": "system", "content": LONG}, {"role": "user", "content": f"question {step}"}]
            client.chat.completions.create(model="gpt-4.1", messages=messages)


def test_good(cachetrack, pytestconfig):
    ask(cachetrack, 10)
    assert cachetrack.hit_rate > 0.6
    assert cachetrack.calls == 10
    assert cachetrack.cost > 0
    assert cachetrack.savings > 0
    assert cachetrack.cached_tokens + cachetrack.uncached_tokens == cachetrack.prompt_tokens
    baseline = pytestconfig.rootpath / "baseline.json"
    cachetrack.save(baseline)
    cachetrack.check(min_hit_rate=0.6, baseline=baseline, max_cost_delta="0%")


def test_too_little_is_read(cachetrack):
    ask(cachetrack, 1)
    cachetrack.check(min_hit_rate=0.6)


def test_a_prefix_breaks(cachetrack):
    ask(cachetrack, 2)
    assert cachetrack.busts == []
    with SimulatedEndpoint(latency=False) as endpoint, OpenAI(base_url=endpoint.base_url, api_key="k") as client:
        for head in ("", "", "It is 10:01. "):
            messages = [{"role": "system", "content": head + LONG}, {"role": "user", "content": "question"}]
            client.chat.completions.create(model="gpt-4.1", messages=messages)
    assert [bust["segment"] for bust in cachetrack.busts] == ["system prompt"]


def test_nothing_is_called(cachetrack):
    assert cachetrack.hit_rate > 0.6
"""


def test_a_project_with_only_the_fixture(tmp_path: Path) -> None:
    (tmp_path / "test_project.py").write_text(PROJECT)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RLM_CACHETRACK_")}
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "rlm_cachetrack.pytest_plugin", "-p", "no:cacheprovider", "."],
        cwd=tmp_path,
        env={**environment, "HOME": str(tmp_path / "home"), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "2 passed" in ran.stdout, ran.stdout + ran.stderr
    assert "2 failed" in ran.stdout
    assert "hit rate is 0.0% (limit: at least 60.0%)" in ran.stdout
    assert "no call was recorded" in ran.stdout
    assert not (tmp_path / "home").exists()
    assert (tmp_path / "baseline.json").exists()


def test_pytest_finds_the_fixture_without_configuration(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "--fixtures", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "cachetrack" in ran.stdout
