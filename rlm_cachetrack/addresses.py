"""Find the secrets in database addresses as libpq reads them, and hide them in texts.

libpq accepts a URL or ``key=value`` pairs. Its grammar differs from that of other URLs: a password may contain any
character but ``@`` and ``/``, and the names of parameters may be percent-encoded.
Source: https://www.postgresql.org/docs/18/libpq-connect.html#LIBPQ-CONNSTRING, read 2026-12-01.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

__all__ = ["is_url", "redact", "remember_secrets", "secrets_of", "without_secrets", "wrong_port"]

_HIDDEN = "***"
_SECRET_NAMES = frozenset(
    ("password", "passfile", "sslpassword", "sslkey", "oauth_client_secret", "scram_client_key", "scram_server_key")
)
_MIN_SECRET_LENGTH = 4
"""A shorter secret is hidden only within an address: hiding it everywhere would make a text illegible."""
_MAX_KNOWN = 200

_VALUE = r"'(?:[^'\\]|\\.)*'?|(?:\\.|[^\s\\])*"
# Greedy up to the last "@" before another address, so that a password with an unescaped character is hidden, too.
_USERINFO = re.compile(r"(\b[a-z][a-z0-9+.-]*://)((?:(?!\b[a-z][a-z0-9+.-]*://)[^\n])*)@", re.IGNORECASE)
# A part without "=" belongs to the value before it, in which an "&" is not encoded.
_URL_PARAMETER = re.compile(r"(?<=[?&])([^=&\s?]+)=([^&\s]*(?:&[^=&\s]*(?![^&\s]))*)")
_PAIR = re.compile(rf"(?<![\w?&])((?:{'|'.join(sorted(_SECRET_NAMES))})\s*=\s*)({_VALUE})", re.IGNORECASE | re.DOTALL)
_PAIR_OR_WORD = re.compile(rf"([^\s=]+)\s*=\s*({_VALUE})|(\S+)", re.DOTALL)

_known: dict[str, None] = {}


def is_url(address: str) -> bool:
    """Return True if libpq reads the address as a URL."""
    return address.startswith(("postgresql://", "postgres://"))


def redact(text: str) -> str:
    """Return ``text`` with the secrets of every database address in it replaced by ``***``."""
    # A whole address may contain blanks; in a longer text, its end is not known.
    own = secrets_of(text) if is_url(text) and text.count("://") == 1 else ()
    text = _without_values(text, [*(secret for secret in own if not secret.isalnum()), *list(_known)])
    return _without_parts(text)


def without_secrets(address: str) -> str:
    """Return one address without its secrets; equal addresses give equal texts in every process.

    Do not identify a store by the text of :func:`redact`, which also hides the secrets of other addresses in use.
    """
    return _without_parts(address) if is_url(address) else _without_words(address)


def _without_parts(text: str) -> str:
    text = _USERINFO.sub(_without_password, text)
    return _PAIR.sub(rf"\g<1>{_HIDDEN}", _URL_PARAMETER.sub(_without_secret, text))


def remember_secrets(address: str) -> None:
    """Let :func:`redact` hide the secrets of this address wherever they are in a text, as in an error of the driver."""
    shown = f"postgresql:// {without_secrets(address)}"
    for secret in secrets_of(address):
        # In postgresql://calls:calls@h/calls, the word is hidden in one place only.
        if len(secret) >= _MIN_SECRET_LENGTH and not (secret.isalnum() and secret in shown):
            _known[secret] = None
    while len(_known) > _MAX_KNOWN:
        del _known[next(iter(_known))]


def _without_words(pairs: str) -> str:
    """Return the pairs that are not secret; words between them may be parts of a secret."""
    found = _PAIR_OR_WORD.finditer(pairs)
    return " ".join(match[0] for match in found if match[1] and match[1].lower() not in _SECRET_NAMES)


def secrets_of(address: str) -> set[str]:
    """Return the secret values of an address, as they are written and as libpq decodes them."""
    found = _secrets_of_url(address) if is_url(address) else _secrets_of_pairs(address)
    forms = {form for value in found for form in (value, value.strip(), unquote(value), unquote(value.strip()))}
    return forms - {"", _HIDDEN}


def _without_values(text: str, secrets: list[str]) -> str:
    """Hide values that may overlap."""
    spans = sorted(
        (found.start(), found.start() + len(secret))
        for secret in secrets
        if len(secret) >= _MIN_SECRET_LENGTH and secret in text
        for found in re.finditer(f"(?={re.escape(secret)})", text)
    )
    shown, position = "", 0
    for start, end in spans:
        if start >= position:
            shown += text[position:start] + _HIDDEN
        position = max(position, end)
    return shown + text[position:]


def _secrets_of_url(address: str) -> set[str]:
    found = set()
    for parameter in re.split("[?&]", address):
        name, _, value = parameter.partition("=")
        if unquote(name).lower() in _SECRET_NAMES:
            found |= {value, address[address.index(parameter) + len(name) + 1 :].partition("&")[0]}  # with "?" in it
        elif found and "=" not in parameter:
            found.add(parameter)  # an "&" in a value is not encoded
    rest = address.partition("://")[2]
    if "@" in rest:
        # As libpq reads it, and as the user may have meant it: with an unescaped "@" or "/" in the password.
        for userinfo in (rest.partition("@")[0], rest.rpartition("@")[0]):
            found.add(userinfo.partition(":")[2])
    return found


def _secrets_of_pairs(address: str) -> set[str]:
    found: set[str] = set()
    for match in _PAIR_OR_WORD.finditer(address):
        name, value, word = match.groups()
        if name and name.lower() in _SECRET_NAMES:
            inner = value[1:].removesuffix("'") if value.startswith("'") else value
            found |= {value, re.sub(r"\\(.)", r"\1", inner, flags=re.DOTALL)}
        elif word and found:
            found.add(word)  # the rest of a password with an unescaped blank
    return found


def _without_password(match: re.Match[str]) -> str:
    user, colon, _ = match[2].partition(":")
    return f"{match[1]}{user}{':' + _HIDDEN if colon else ''}@"


def _without_secret(match: re.Match[str]) -> str:
    return f"{match[1]}={_HIDDEN}" if unquote(match[1]).lower() in _SECRET_NAMES else match[0]


def wrong_port(address: str) -> bool:
    """Return True if a port in a URL is not a number from 1 to 65535."""
    authority = re.split("[/?]", address.partition("://")[2].removeprefix(_userinfo(address)), maxsplit=1)[0]
    ports = [host.rpartition("]")[2].partition(":")[2] for host in authority.split(",")]
    return any(port and not (port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16) for port in ports)


def _userinfo(address: str) -> str:
    """Return the user and password of a URL with the ``@``, as libpq finds them; empty if there are none."""
    found = re.match("[^@/]*@", address.partition("://")[2])
    return found[0] if found else ""
