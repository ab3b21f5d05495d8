"""``prices add``: one entry of a pricing file is written, everything else stays as it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from rlm_cachetrack.cli import app
from rlm_cachetrack.errors import PricingError
from rlm_cachetrack.pricing import PriceBook, example
from rlm_cachetrack.pricing.file.editing import with_entry

FILE = """\
# our prices, checked by Anna
version: 1
per: 1M   # tokens

models:
  # the cheap one
  small: {prompt: 1, completion: 2}  # since May
  large:
    prompt: 10     # input
    completion: 30
    # more to come
    tiers:
      flex: 0.5   # half

  # the end of the models
discounts:
  azure: 0.9  # contract
"""


def priced(text: str, tmp_path: Path, model: str, **more: object) -> tuple[float, float, float]:
    path = tmp_path / "check.yaml"
    path.write_text(text)
    rates = PriceBook.load(path).rates(model=model, **more)  # type: ignore[arg-type]
    assert rates is not None
    return round(rates.prompt * 1_000, 9), round(rates.cached * 1_000, 9), round(rates.completion * 1_000, 9)


def removed_lines(before: str, after: str) -> list[str]:
    return [line for line in before.splitlines() if line not in after.splitlines()]


def test_a_new_entry_is_added_after_the_last_one(tmp_path: Path) -> None:
    text = with_entry(FILE, "new-model", {"prompt": 2.0, "cached": 0.1, "completion": 8.0})
    assert removed_lines(FILE, text) == []
    assert "      flex: 0.5   # half\n  new-model: {prompt: 2, cached: 0.1, completion: 8}\n\n  # the end" in text
    assert priced(text, tmp_path, "new-model") == (2, 0.1, 8)


def test_values_of_an_entry_are_replaced_and_its_comments_stay(tmp_path: Path) -> None:
    text = with_entry(FILE, "large", {"prompt": 9.5, "cached": 0.95, "tiers.flex": 0.6, "tiers.batch": 0.5})
    assert "    prompt: 9.5     # input\n" in text
    assert "      flex: 0.6   # half\n      batch: 0.5\n" in text
    assert "    # more to come\n" in text
    assert removed_lines(FILE, text) == ["    prompt: 10     # input", "      flex: 0.5   # half"]
    assert priced(text, tmp_path, "large") == (9.5, 0.95, 30)
    assert priced(text, tmp_path, "large", service_tier="batch")[0] == 4.75


def test_an_entry_between_braces_stays_between_braces(tmp_path: Path) -> None:
    text = with_entry(FILE, "small", {"completion": 3.0, "cached": 0.25})
    assert "  small: {prompt: 1, completion: 3, cached: 0.25}  # since May\n" in text
    assert priced(text, tmp_path, "small") == (1, 0.25, 3)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "version: 1\nper: 1M\nmodels:\n",
        "version: 1\nper: 1M\nmodels:   # none yet\n\ndiscounts: {azure: 0.9}\n",
        "version: 1\nper: 1M\n",
        "version: 1\nper: 1M\nmodels: {}\n",
        "version: 1\nper: 1M\nmodels: {other: {prompt: 1, completion: 1}}",
        "version: 1\nper: 1M\nmodels: {\n  other: {prompt: 1, completion: 1},\n}\n",
        "version: 1\nper: 1K\nmodels:\n    other: {prompt: 1, completion: 1}\n",
        example(),
    ],
)
def test_a_model_can_be_added_to_any_file(tmp_path: Path, text: str) -> None:
    changed = with_entry(text, "new-model", {"prompt": 2.0, "cached": 0.1, "completion": 8.0}, "openai")
    assert priced(changed, tmp_path, "new-model", provider="openai") == (2, 0.1, 8)
    assert [line for line in removed_lines(text, changed) if "models: {" not in line and "other:" not in line] == []


def test_prices_are_converted_to_the_unit_of_the_entry(tmp_path: Path) -> None:
    text = "version: 1\nper: 1K\nmodels:\n  old:\n    prompt: 0.001\n    completion: 0.002\n"
    changed = with_entry(text, "old", {"prompt": 3.0})
    assert "    prompt: 0.003\n" in changed
    assert priced(changed, tmp_path, "old") == (3, 3, 2)


@pytest.mark.parametrize("per", ["per: 1M\n", "per: 1K\n", ""])
def test_a_price_of_a_unit_is_written_as_given(tmp_path: Path, per: str) -> None:
    changed = with_entry(f"version: 1\n{per}models:\n", "film", {"per_second": 0.1}, "openai")
    assert changed.endswith("\n  film: {provider: openai, per_second: 0.1}\n")
    path = tmp_path / "check.yaml"
    path.write_text(with_entry(changed, "film", {"per_second": 0.2}))
    rates = PriceBook.load(path).rates(model="film", provider="openai")
    assert rates is not None
    assert rates.extras == {"seconds": 0.2}


@pytest.mark.parametrize(
    "model",
    [
        "ft:gpt-4o-2024-08-06:acme::id",
        "@cf/meta/llama",
        "accounts/fireworks/models/x",
        "Model With Spaces",
        "o3",
        "4711",
    ],
)
def test_names_are_quoted_where_yaml_needs_it(tmp_path: Path, model: str) -> None:
    changed = with_entry(FILE, model, {"prompt": 2.0, "completion": 8.0})
    assert priced(changed, tmp_path, model)[0] == 2
    assert priced(with_entry(changed, model, {"prompt": 5.0}), tmp_path, model)[0] == 5


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("{alias: gpt-5}", "is an alias"),
        ("[{valid_to: 2026-01-01, prompt: 1, completion: 1}]", "several entries"),
        ("{provider: azure, prompt: 1, completion: 1}", "is for azure"),
    ],
)
def test_an_entry_of_another_form_is_left_to_the_user(entry: str, reason: str) -> None:
    with pytest.raises(PricingError, match=reason):
        with_entry(f"version: 1\nper: 1M\nmodels:\n  m: {entry}\n", "m", {"prompt": 2.0}, "openai")


# -- the command -------------------------------------------------------------------------------------------------------


def cli(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "100"})


def test_the_command_creates_the_file_of_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RLM_CACHETRACK_PRICING", raising=False)
    result = cli("prices", "add", "gpt-9", "--prompt", "2", "--cached", "0.1", "--completion", "8")
    assert result.exit_code == 0, result.output
    text = (tmp_path / "rlm_cachetrack.yaml").read_text()
    assert "gpt-9: {prompt: 2, cached: 0.1, completion: 8}" in text
    assert "reprice --unpriced" in " ".join(result.stdout.split())


def test_the_command_changes_the_file_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ours.yaml"
    path.write_text(FILE)
    monkeypatch.setenv("RLM_CACHETRACK_PRICING", str(path))
    result = cli("prices", "add", "large", "--cached", "1", "--set", "tiers.priority=2")
    assert result.exit_code == 0, result.output
    assert priced(path.read_text(), tmp_path, "large") == (10, 1, 30)
    assert priced(path.read_text(), tmp_path, "large", service_tier="priority") == (20, 2, 60)


def test_the_command_changes_the_file_behind_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, link = tmp_path / "ours.yaml", tmp_path / "link.yaml"
    path.write_text(FILE)
    path.chmod(0o640)
    link.symlink_to(path)
    monkeypatch.setenv("RLM_CACHETRACK_PRICING", str(link))
    assert cli("prices", "add", "small", "--prompt", "4").exit_code == 0
    assert link.is_symlink()
    assert "small: {prompt: 4, completion: 2}" in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working directory, which is empty."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RLM_CACHETRACK_PRICING", raising=False)
    return tmp_path


def test_add_keeps_the_listed_prices_beside_a_missing_component(folder: Path) -> None:
    values = ["audio.prompt=40", "audio.completion=80"]
    result = cli("prices", "add", "gpt-4o-audio-preview", *(word for one in values for word in ("--set", one)))
    assert result.exit_code == 0, result.output
    rates = PriceBook.load(folder / "rlm_cachetrack.yaml").rates(model="gpt-4o-audio-preview", provider="openai")
    assert rates is not None
    assert (rates.prompt, rates.completion) == (0.0025, 0.01)  # 2.50 and 10 per 1M, as listed
    assert (rates.extras["audio_prompt"], rates.extras["audio_completion"]) == (0.04, 0.08)


def test_add_does_not_convert_factors_and_prices_of_one_use(folder: Path) -> None:
    path = folder / "rlm_cachetrack.yaml"
    path.write_text("version: 1\nper: 1K\nmodels:\n  small: {prompt: 0.001, completion: 0.002}\n")
    values = ["tools.web_search=0.01", "per_request=0.02", "regions.eu=1.1", "windows.8h=0.6", "audio.prompt=32"]
    result = cli("prices", "add", "small", *(word for one in values for word in ("--set", one)))
    assert result.exit_code == 0, result.output
    rates = PriceBook.load(path).rates(model="small")
    assert rates is not None
    assert rates.extras == {"web_search": 0.01, "request": 0.02, "audio_prompt": 0.032}
    assert (rates.regions, rates.windows) == ({"eu": 1.1}, {"8h": 0.6})


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["gpt-9", "--prompt", "-1", "--completion", "1"], "prompt"),
        (["gpt-9", "--prompt", "cheap", "--completion", "1"], "as a number"),
        (["gpt-9"], "at least one price"),
        (["gpt-9", "--prompt", "1"], "completion"),
        (["gpt-9", "--prompt", "1", "--completion", "1", "--set", "colour=1"], "colour"),
        (["gpt-9", "--prompt", "1", "--completion", "1", "--set", "colour"], "NAME=USD"),
        (["gpt-9", "--prompt", "1", "--completion", "1", "--provider", "opnai"], "openai"),
    ],
)
def test_a_mistake_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], reason: str
) -> None:
    path = tmp_path / "ours.yaml"
    path.write_text(FILE)
    monkeypatch.setenv("RLM_CACHETRACK_PRICING", str(path))
    result = cli("prices", "add", *arguments)
    assert result.exit_code == 2, result.output
    assert reason in " ".join(result.stderr.split())
    assert path.read_text() == FILE
