"""No secret of a database address is shown, whatever its form; libpq's own parser determines what is secret."""

from __future__ import annotations

import random
from urllib.parse import quote

import psycopg
import pytest
from psycopg import conninfo

from rlm_cachetrack import addresses
from rlm_cachetrack.addresses import redact, without_secrets
from rlm_cachetrack.config import load_settings
from rlm_cachetrack.errors import ConfigError
from rlm_cachetrack.pipeline.runtime import store_id_of
from rlm_cachetrack.store.connect import translated_errors


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clear the list of known secrets for each test, and restore it afterwards."""
    monkeypatch.setattr(addresses, "_known", {})


SECRETS = ("password", "sslpassword", "passfile", "sslkey", "oauth_client_secret")
SPECIAL = " '\\\"#?[]:;&=%@/+,!$*()é日🎭\t~|<>{}`^"


def secret(random_: random.Random) -> str:
    """Return a secret with special characters between recognizable words."""
    words = [f"hunter{random_.randrange(10**6)}" for _ in range(random_.randrange(1, 4))]
    return "".join(word + random_.choice(SPECIAL) * random_.randrange(2) for word in words)


def spelled(name: str, random_: random.Random) -> str:
    """Percent-encode some letters of a name, as libpq allows in a URL."""
    return "".join(f"%{ord(letter):02x}" if random_.random() < 0.2 else letter for letter in name)


def url(random_: random.Random) -> tuple[str, list[str]]:
    secrets = []
    text = random_.choice(["postgresql://", "postgres://"])
    if random_.random() < 0.8:
        secrets.append(secret(random_))
        encoded = quote(secrets[0], safe="") if random_.random() < 0.5 else secrets[0]
        text += f"{random_.choice(['me', '', 'm%65'])}:{encoded}@"
    text += ",".join(
        random_.choice(["h", "db.example:5432", "[::1]:5433", "127.0.0.1"]) for _ in range(random_.choice([1, 1, 3]))
    )
    text += random_.choice(["", "/", "/calls"])
    parameters = []
    for name in ("sslmode", random_.choice(SECRETS), "application_name"):
        if random_.random() < 0.5:
            value = {"sslmode": "disable", "application_name": "mine"}.get(name)
            if value is None:
                secrets.append(value := secret(random_))
                value = quote(value, safe="") if random_.random() < 0.7 else value
            parameters.append(f"{spelled(name, random_)}={value}")
    return text + ("?" + "&".join(parameters) if parameters else ""), secrets


def pairs(random_: random.Random) -> tuple[str, list[str]]:
    secrets, parts = [], []
    for name in random_.sample(["host", "dbname", "user", "password", "sslpassword", "application_name"], 4):
        value = "plain"
        if name in SECRETS:
            secrets.append(value := secret(random_))
            form = random_.randrange(3)
            if form == 0:
                value = "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
            elif form == 1:
                value = "".join("\\" + letter if letter in " '\\\t" else letter for letter in value)
        parts.append(f"{name}{' ' * random_.randrange(2)}={' ' * random_.randrange(2)}{value}")
    return random_.choice([" ", "  ", "\n"]).join(parts), secrets


def words_of(secrets: list[str]) -> list[str]:
    return [f"hunter{word}" for each in secrets for word in each.split("hunter")[1:]]


def shown_words(text: str, secrets: list[str]) -> list[str]:
    """Return the recognizable words of the secrets that a text contains."""
    return [word for word in (w[:12] for w in words_of(secrets)) if len(word) > 8 and word in text]


@pytest.mark.parametrize("seed", range(15))
@pytest.mark.parametrize("make", [url, pairs])
def test_no_part_of_a_secret_is_shown_in_any_form_of_an_address(make: object, seed: int) -> None:
    random_ = random.Random(seed)
    for _ in range(50):
        address, secrets = make(random_)  # type: ignore[operator]
        try:
            parsed = conninfo.conninfo_to_dict(address)
        except psycopg.ProgrammingError:
            parsed = None
        try:
            settings = load_settings(address)
        except ConfigError as exc:
            refused = str(exc)
        else:
            refused = ""
        assert not shown_words(refused, secrets), address
        if refused:
            assert parsed is None or "port" in refused, address  # what libpq accepts is accepted
            continue
        for text in (redact(address), redact(f"cannot reach {address}: no such host"), str(settings)):
            assert not shown_words(text, secrets), (address, text)
        if parsed is None:
            with pytest.raises(ConfigError) as caught, translated_errors(address, is_first_connection=True):
                conninfo.conninfo_to_dict(address)
            assert caught.value.__cause__ is None
            assert not shown_words(str(caught.value), secrets), (address, str(caught.value))
            continue
        for name in SECRETS:
            if (value := parsed.get(name)) and len(str(value)) > 4:
                assert str(value) not in redact(f"a driver says: {value}"), address
        assert redact(redact(address)) == redact(address)


@pytest.mark.parametrize(
    ("address", "password"),
    [
        ("postgresql://u:pa#ss?wo[rd@127.0.0.1:5432/d", "pa#ss?wo[rd"),
        ("postgresql://u:pa]ss:w@127.0.0.1/d", "pa]ss:w"),
        ("postgresql://u:pa%20ss@127.0.0.1/d", "pa ss"),
        ("postgresql://127.0.0.1/d?user=u&passwor%64=hunter", "hunter"),
        ("postgresql://u:pass@h1:1,h2:2/d?target_session_attrs=any", "pass"),
        ("host=127.0.0.1 password=a\\ b", "a b"),
        ("host = 127.0.0.1 password = 'a\\'b c'", "a'b c"),
    ],
)
def test_what_libpq_accepts_is_accepted(address: str, password: str) -> None:
    assert conninfo.conninfo_to_dict(address)["password"] == password
    assert load_settings(address).db_url == address
    shown = redact(address)
    assert password not in shown
    assert "***" in shown
    assert "127.0.0.1" in shown or "h1:1,h2:2/d?target_session_attrs=any" in shown


@pytest.mark.parametrize(
    "address", ["postgresql://u:hunter22@h:port/d", "postgresql://u:hunter22/d", "postgresql://h:0,h:99999/d"]
)
def test_a_wrong_port_is_reported_without_the_text_that_may_be_the_password(address: str) -> None:
    with pytest.raises(ConfigError, match="its port is not a number up to 65535") as caught:
        load_settings(address)
    assert "hunter22" not in str(caught.value)


@pytest.mark.parametrize("text", ["prompt_tokens=10: expected", "a@b.example", "key=value", "https://x.example/?q=1"])
def test_text_without_a_secret_is_unchanged(text: str) -> None:
    assert redact(text) == text


def test_a_short_secret_is_hidden_only_in_its_address() -> None:
    addresses.remember_secrets("postgresql://u:abc@h/d")
    assert redact("abc is a word") == "abc is a word"
    assert redact("postgresql://u:abc@h/d") == "postgresql://u:***@h/d"


def test_a_secret_that_is_also_a_name_is_hidden_in_one_place() -> None:
    address = "postgresql://postgres:postgres@127.0.0.1/postgres"
    load_settings(address)
    assert redact(address) == "postgresql://postgres:***@127.0.0.1/postgres"
    assert redact(f"cannot reach {address}") == "cannot reach postgresql://postgres:***@127.0.0.1/postgres"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("user=postgres dbname=calls password=a\\ b", "user=postgres dbname=calls"),
        ("postgresql://postgres:p%40ss@h/calls", "postgresql://postgres:***@h/calls"),
    ],
)
def test_the_identity_of_a_store_does_not_depend_on_other_addresses(address: str, shown: str) -> None:
    """Otherwise a process that has used another database would look for the journals of this one elsewhere."""
    before = without_secrets(address)
    addresses.remember_secrets("postgresql://me:postgres@other/db")
    addresses.remember_secrets("postgresql://me:calls@other/db")
    assert store_id_of(load_settings(address), None) == without_secrets(address) == before == shown
