"""Settings from arguments and environment: precedence, and errors without passwords."""

from __future__ import annotations

import dataclasses
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from rlm_cachetrack.config import Settings, disabled, load_settings, redact
from rlm_cachetrack.errors import ConfigError

SECRET = "hunter2"
URL = "postgresql://me:hunter2@db.example:5432/calls"


@pytest.fixture(autouse=True)
def empty_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cwd"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


# -- which database ---------------------------------------------------------------------------------------------------


def test_an_argument_takes_precedence_over_both_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMESCALE_DB_URL", "postgresql://third/x")
    monkeypatch.setenv("RLM_CACHETRACK_DB_URL", "postgresql://second/x")
    settings = load_settings("postgresql://first/x")
    assert (settings.db_url, settings.db_url_origin) == ("postgresql://first/x", "the db_url argument")
    settings = load_settings()
    assert (settings.db_url, settings.db_url_origin) == ("postgresql://second/x", "RLM_CACHETRACK_DB_URL")
    monkeypatch.setenv("RLM_CACHETRACK_DB_URL", "")  # treated as not set
    settings = load_settings()
    assert (settings.db_url, settings.db_url_origin) == ("postgresql://third/x", "TIMESCALE_DB_URL")


def test_without_an_address_the_embedded_server_is_used() -> None:
    settings = load_settings()
    assert settings.db_url is None
    assert "embedded" in settings.db_url_origin


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://localhost/x",
        "postgres://me@localhost/x",
        "postgresql:///x?host=/var/run/postgresql",
        "postgresql://one:5432,two:5433/x?target_session_attrs=primary",
        "postgresql://me:p%40ss@[::1]:5432/x",
        "host=localhost dbname=x",
        "dbname = x",
    ],
)
def test_addresses_that_libpq_parses_are_used_as_they_are(url: str) -> None:
    assert load_settings(f"  {url}\n").db_url == url


@pytest.mark.parametrize("url", ["mysql://me:hunter2@h/x", "localhost", "", 5, b"postgresql://h/x"])
def test_other_addresses_are_rejected_with_their_source_and_what_was_expected(url: Any) -> None:
    with pytest.raises(ConfigError, match=r"db_url argument.*expected an address such as postgresql://") as caught:
        load_settings(url)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("port", ["port", "hunter2", "70000"])
def test_an_invalid_port_is_rejected_without_being_quoted(port: str) -> None:
    """If the "@host" was forgotten, the port is the password."""
    with pytest.raises(ConfigError, match="port is not a number") as caught:
        load_settings(f"postgresql://me:{port}")
    assert port not in str(caught.value).replace("port is not", "")
    assert caught.value.__cause__ is None


# -- other settings ---------------------------------------------------------------------------------------------------


def test_defaults() -> None:
    settings = load_settings("postgresql://h/x")
    assert settings.pool_size == 10
    assert settings.pricing is None
    assert settings.journal_max_bytes == 1 << 30


def test_settings_do_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        load_settings().pool_size = 3  # type: ignore[misc]


@pytest.mark.parametrize("pool_size", [0, -1, 1.5, "3", None, True])
def test_a_pool_size_must_be_a_whole_number_of_at_least_one(pool_size: Any) -> None:
    with pytest.raises(ConfigError, match="pool_size"):
        load_settings(pool_size=pool_size)


def test_pricing_is_the_argument_then_the_variable_then_the_local_file(
    empty_working_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load_settings().pricing is None
    local = empty_working_directory / "rlm_cachetrack.yaml"
    local.touch()
    assert load_settings().pricing == local
    monkeypatch.setenv("RLM_CACHETRACK_PRICING", "~/prices.yaml")
    assert load_settings().pricing == Path.home() / "prices.yaml"
    assert load_settings(pricing="mine.yaml").pricing == Path("mine.yaml")
    assert load_settings(pricing=Path("~/mine.yaml")).pricing == Path.home() / "mine.yaml"


@pytest.mark.parametrize("pricing", [5, ["a.yaml"], {}])
def test_pricing_is_a_path(pricing: Any) -> None:
    with pytest.raises(ConfigError, match="path of a YAML file"):
        load_settings(pricing=pricing)


def test_folders_come_from_the_environment_and_are_absolute(
    empty_working_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLM_CACHETRACK_STATE_DIR", "state")
    monkeypatch.setenv("RLM_CACHETRACK_DATA_DIR", "~/data")
    settings = load_settings()
    assert settings.state_dir == empty_working_directory / "state"
    assert settings.data_dir == Path.home() / "data"
    assert list(empty_working_directory.iterdir()) == []  # reading the setting creates no folder


@pytest.fixture
def without_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A container may run as a user id that has no account. Returns the folder for temporary files."""
    for name in list(os.environ):
        if name == "HOME" or name.startswith("XDG_"):
            monkeypatch.delenv(name)

    def unknown(uid: int) -> Any:
        raise KeyError(uid)

    monkeypatch.setattr("pwd.getpwuid", unknown)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    monkeypatch.delenv("RLM_CACHETRACK_STATE_DIR")
    monkeypatch.delenv("RLM_CACHETRACK_DATA_DIR")
    return tmp_path


def test_a_user_without_home_gets_a_private_temporary_folder_and_one_warning(
    without_home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = load_settings(URL), load_settings(URL)
    assert first.state_dir == second.state_dir == without_home / f"rlm-cachetrack-{os.geteuid()}"
    assert stat.S_IMODE(first.state_dir.stat().st_mode) == 0o700
    assert len(caplog.records) == 1
    assert "no home directory" in caplog.text
    assert "set RLM_CACHETRACK_STATE_DIR to a folder" in caplog.text


@pytest.mark.parametrize("trap", ["link", "open", "file"])
def test_a_temporary_folder_that_another_user_prepared_is_not_used(without_home: Path, trap: str) -> None:
    name = without_home / f"rlm-cachetrack-{os.geteuid()}"
    elsewhere = without_home / "elsewhere"
    elsewhere.mkdir()
    if trap == "link":
        name.symlink_to(elsewhere)
    elif trap == "open":
        name.mkdir()
        name.chmod(0o777)
    else:
        name.write_text("")
    used = load_settings(URL).state_dir
    if trap != "file":  # with a file in its place, the journal reports that it cannot be written
        assert used != name
        assert stat.S_IMODE(used.stat().st_mode) == 0o700


def test_a_state_folder_that_is_named_needs_no_home(without_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLM_CACHETRACK_STATE_DIR", "/somewhere")
    monkeypatch.setenv("RLM_CACHETRACK_DATA_DIR", "/elsewhere")
    assert load_settings().state_dir == Path("/somewhere")
    assert list(without_home.glob("rlm*")) == []


@pytest.mark.parametrize(
    ("variable", "attribute"),
    [
        ("RLM_CACHETRACK_SHUTDOWN_TIMEOUT_S", "shutdown_timeout_s"),
        ("RLM_CACHETRACK_JOURNAL_MAX_BYTES", "journal_max_bytes"),
    ],
)
def test_numbers_of_the_environment(variable: str, attribute: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "3")
    assert getattr(load_settings(), attribute) == 3
    for wrong in ("-1", "soon", "nan", "inf"):
        monkeypatch.setenv(variable, wrong)
        with pytest.raises(ConfigError, match=f"{variable}='{wrong}'"):
            load_settings()


@pytest.mark.parametrize(
    ("value", "expected"), [("1", True), ("true", True), (" YES ", True), ("0", False), ("off", False), ("", False)]
)
def test_disabled(value: str, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLM_CACHETRACK_DISABLED", value)
    assert disabled() is expected


def test_disabled_must_be_a_boolean(monkeypatch: pytest.MonkeyPatch) -> None:
    assert disabled() is False
    monkeypatch.setenv("RLM_CACHETRACK_DISABLED", "perhaps")
    with pytest.raises(ConfigError, match="RLM_CACHETRACK_DISABLED='perhaps'"):
        disabled()


# -- secrets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (URL, "postgresql://me:***@db.example:5432/calls"),
        ("postgresql://me@h/x", "postgresql://me@h/x"),
        ("postgresql://h/x", "postgresql://h/x"),
        ("postgresql://me:hun#ter/2@h/x", "postgresql://me:***@h/x"),
        ("postgresql://me:hun@ter2@h/x", "postgresql://me:***@h/x"),
        ("postgresql://:hunter2@h/x", "postgresql://:***@h/x"),
        ("host=h password=hunter2 dbname=x", "host=h password=*** dbname=x"),
        ("host=h password = 'hun ter\\'2' dbname=x", "host=h password = *** dbname=x"),
        (
            "postgresql://h/x?user=me&password=hunter2&sslmode=disable",
            "postgresql://h/x?user=me&password=***&sslmode=disable",
        ),
        ("PASSWORD=hunter2", "PASSWORD=***"),
        ("no address here", "no address here"),
    ],
)
def test_redact_hides_passwords_and_nothing_else(text: str, shown: str) -> None:
    assert redact(text) == shown
    assert redact(f"cannot reach {text}") == f"cannot reach {shown}"
    assert redact(shown) == shown


def test_redact_hides_each_of_several_addresses() -> None:
    text = redact(f"{URL} and {URL.replace('hunter2', 'other-secret')}")
    assert text == "postgresql://me:***@db.example:5432/calls and postgresql://me:***@db.example:5432/calls"


def test_settings_do_not_show_a_password_when_printed() -> None:
    assert SECRET not in repr(load_settings(URL))
    assert SECRET not in str(load_settings(f"host=h password={SECRET}"))
    assert load_settings(URL).db_url == URL
    assert {field.name for field in dataclasses.fields(Settings)} >= {"db_url", "pricing", "pool_size"}
