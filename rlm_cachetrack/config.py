"""Resolve arguments and environment variables into one frozen :class:`Settings`.

An argument takes precedence over the environment, the environment over the default. The only access to network or disk
is the check whether ``rlm_cachetrack.yaml`` is in the working directory.
"""

from __future__ import annotations

import logging
import os
import re
import stat
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from rlm_cachetrack import addresses
from rlm_cachetrack.addresses import redact
from rlm_cachetrack.errors import ConfigError, safe_repr

__all__ = ["Settings", "cache_bust_warnings", "cache_rules_file", "disabled", "load_settings", "redact"]

logger = logging.getLogger("rlm_cachetrack")

ENV_DB_URL = "RLM_CACHETRACK_DB_URL"
ENV_DB_URL_FALLBACK = "TIMESCALE_DB_URL"
ENV_PRICING = "RLM_CACHETRACK_PRICING"
ENV_PRICES_UPDATE = "RLM_CACHETRACK_PRICES_UPDATE"
ENV_PRICES_URL = "RLM_CACHETRACK_PRICES_URL"
ENV_DISABLED = "RLM_CACHETRACK_DISABLED"
ENV_DATA_DIR = "RLM_CACHETRACK_DATA_DIR"
ENV_STATE_DIR = "RLM_CACHETRACK_STATE_DIR"
ENV_SHUTDOWN_TIMEOUT = "RLM_CACHETRACK_SHUTDOWN_TIMEOUT_S"
ENV_JOURNAL_MAX_BYTES = "RLM_CACHETRACK_JOURNAL_MAX_BYTES"
ENV_FINGERPRINTS = "RLM_CACHETRACK_FINGERPRINTS"
ENV_CACHE_BUST_WARNINGS = "RLM_CACHETRACK_CACHE_BUST_WARNINGS"
ENV_CACHE_RULES = "RLM_CACHETRACK_CACHE_RULES"
ENV_FINGERPRINT_KEY = "RLM_CACHETRACK_FINGERPRINT_KEY"
DEFAULT_PRICING_FILE = "rlm_cachetrack.yaml"

_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"", "0", "false", "no", "off"}
_MIN_KEY_LENGTH = 16
_warned_folders: set[Path] = set()
_KEY_VALUE = re.compile(r"^\s*\w+\s*=")


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of a process.

    Attributes:
        db_url: Address of the database; None is the embedded PostgreSQL.
        db_url_origin: The source of the address, for ``doctor`` and error messages.
        pricing: Path of the pricing YAML, or None for the built-in table alone.
        prices_update: ``daily`` lets the writer fetch the newest price list once a day; None: never.
        prices_url: Where price lists are fetched; None: where genai-prices publishes its data.
        pool_size: Limit of simultaneous connections for reads; the writer has its own.
        data_dir: The folder of the embedded PostgreSQL's data.
        state_dir: The folder of the journals.
        shutdown_timeout_s: How long the exit of the interpreter may wait for records to be stored, in seconds.
        journal_max_bytes: Limit of the journal on disk, in bytes.
        fingerprints: Whether prompts are hashed, so that cache misses can be explained.
        fingerprint_key: The secret key of the hashes, to share between machines; None: the key in ``state_dir``.
        batch_max_records: The maximum number of records in a batch.
        batch_max_bytes: The maximum size of a batch, in bytes of journal.
        batch_max_age_s: The age of its first record at which a batch is stored, in seconds.
    """

    db_url: str | None = field(repr=False)  # it may hold a password
    db_url_origin: str
    pricing: Path | None
    data_dir: Path
    state_dir: Path
    prices_update: str | None = None
    prices_url: str | None = None
    pool_size: int = 10
    shutdown_timeout_s: float = 5.0
    journal_max_bytes: int = 1 << 30
    fingerprints: bool = True
    fingerprint_key: str | None = field(default=None, repr=False)
    batch_max_records: int = 2_500
    batch_max_bytes: int = 8 << 20
    batch_max_age_s: float = 0.75


def disabled() -> bool:
    """Return True if ``RLM_CACHETRACK_DISABLED`` turns the library off.

    Raises:
        ConfigError: The variable is neither true nor false.
    """
    return _flag(ENV_DISABLED, default=False)


def cache_bust_warnings() -> bool:
    """Return True if ``RLM_CACHETRACK_CACHE_BUST_WARNINGS`` asks for a warning when a call breaks a cached prefix.

    Raises:
        ConfigError: The variable is neither true nor false.
    """
    return _flag(ENV_CACHE_BUST_WARNINGS, default=False)


def cache_rules_file() -> Path | None:
    """Return the file of the user's cache rules, from ``RLM_CACHETRACK_CACHE_RULES``; None without one."""
    value = os.environ.get(ENV_CACHE_RULES)
    return Path(value).expanduser() if value else None


def load_settings(
    db_url: str | None = None,
    *,
    pool_size: int = 10,
    pricing: str | os.PathLike[str] | None = None,
) -> Settings:
    """Resolve arguments, environment and defaults.

    Args:
        db_url: Address of a PostgreSQL (``postgresql://…`` or libpq's ``key=value`` form). None: the environment's.
        pool_size: Limit of simultaneous connections for reads, at least 1.
        pricing: A pricing file. None: the environment's, else ``rlm_cachetrack.yaml`` in the working directory.

    Raises:
        ConfigError: A value is not usable; the message names its source and what was expected.
    """
    url, origin = _resolve_url(db_url)
    if isinstance(pool_size, bool) or not isinstance(pool_size, int) or pool_size < 1:
        raise ConfigError(f"pool_size={safe_repr(pool_size)}: expected a whole number of at least 1")
    return Settings(
        db_url=url,
        db_url_origin=origin,
        pricing=_resolve_pricing(pricing),
        prices_update=_prices_update(),
        prices_url=os.environ.get(ENV_PRICES_URL) or None,
        pool_size=pool_size,
        data_dir=_directory(ENV_DATA_DIR) or _default_data_dir(),
        state_dir=_directory(ENV_STATE_DIR) or _default_state_dir(),
        shutdown_timeout_s=_number(ENV_SHUTDOWN_TIMEOUT, 5.0),
        journal_max_bytes=int(_number(ENV_JOURNAL_MAX_BYTES, float(1 << 30))),
        fingerprints=_flag(ENV_FINGERPRINTS, default=True),
        fingerprint_key=_fingerprint_key(),
    )


def _resolve_url(db_url: str | None) -> tuple[str | None, str]:
    candidates = (
        (db_url, "the db_url argument"),
        (os.environ.get(ENV_DB_URL) or None, ENV_DB_URL),
        (os.environ.get(ENV_DB_URL_FALLBACK) or None, ENV_DB_URL_FALLBACK),
    )
    for value, origin in candidates:
        if value is not None:
            return _check_url(value, origin), origin
    return None, "default (embedded PostgreSQL)"


def _check_url(value: object, origin: str) -> str:
    expected = "expected an address such as postgresql://host:5432/database, or libpq's key=value form"
    if not isinstance(value, str):
        raise ConfigError(f"{origin} is a {type(value).__name__}; {expected}")
    text = value.strip()
    addresses.remember_secrets(text)
    if addresses.is_url(text):
        if addresses.wrong_port(text):
            # The port is not quoted: if "@" is missing, that text is the password.
            raise ConfigError(f"{origin} is not a usable address (its port is not a number up to 65535); {expected}")
        return text
    if _KEY_VALUE.match(text):
        return text
    shown = redact(text) if "://" in text else f"{len(text)} characters without a scheme"
    raise ConfigError(f"{origin} is not the address of a PostgreSQL ({shown}); {expected}")


def _resolve_pricing(pricing: str | os.PathLike[str] | None) -> Path | None:
    if pricing is not None:
        if not isinstance(pricing, (str, os.PathLike)):
            raise ConfigError(f"pricing is a {type(pricing).__name__}; expected the path of a YAML file")
        return Path(pricing).expanduser()
    if value := os.environ.get(ENV_PRICING):
        return Path(value).expanduser()
    local = Path(DEFAULT_PRICING_FILE)
    return local.absolute() if local.is_file() else None


def _prices_update() -> str | None:
    value = os.environ.get(ENV_PRICES_UPDATE, "").strip().lower()
    if value in _FALSE:
        return None
    if value != "daily":
        raise ConfigError(f"{ENV_PRICES_UPDATE}={value!r}: expected daily or off")
    return value


def _directory(variable: str) -> Path | None:
    value = os.environ.get(variable)
    return Path(value).expanduser().absolute() if value else None


def _flag(variable: str, *, default: bool) -> bool:
    value = os.environ.get(variable, "").strip().lower()
    if value in _TRUE:
        return True
    if value in _FALSE:
        return default if not value else False
    raise ConfigError(f"{variable}={safe_repr(value)}: expected 1 or 0")


def _fingerprint_key() -> str | None:
    value = os.environ.get(ENV_FINGERPRINT_KEY) or None
    if value is not None and len(value) < _MIN_KEY_LENGTH:
        raise ConfigError(
            f"{ENV_FINGERPRINT_KEY} has {len(value)} characters: expected a secret of at least {_MIN_KEY_LENGTH}, "
            "the same on every machine"
        )
    return value


def _number(variable: str, default: float) -> float:
    value = os.environ.get(variable)
    if not value:
        return default
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise ConfigError(f"{variable}={safe_repr(value)}: expected a number of at least 0")
    return number


def _is_root() -> bool:
    return sys.platform != "win32" and os.geteuid() == 0


def _default_data_dir() -> Path:
    # PostgreSQL does not run as root, so root's data belongs to a system user, who cannot access root's home.
    if _is_root():
        return Path("/var/lib/rlm-cachetrack")
    return _user_path("user_data_path") or _temporary_state_dir() / "data"


def _default_state_dir() -> Path:
    return _user_path("user_state_path") or _temporary_state_dir()


def _user_path(function: str) -> Path | None:
    """Return a folder of the user; None if the user has no home directory."""
    import platformdirs  # imported here: it takes 8 ms, and only these defaults need it

    try:
        path: Path = getattr(platformdirs, function)("rlm-cachetrack", appauthor=False)
    except RuntimeError:  # older releases return a path that begins with "~" instead
        return None
    return path if path.is_absolute() else None


def _temporary_state_dir() -> Path:
    """Return a private folder for a user without a home directory, for example in a container; log that once."""
    path = Path(tempfile.gettempdir()) / f"rlm-cachetrack-{os.geteuid() if hasattr(os, 'geteuid') else 0}"
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        status = path.lstat()
    except OSError:
        return path  # the journal reports that it cannot be written
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        path = Path(tempfile.mkdtemp(prefix="rlm-cachetrack-"))  # another user made a folder with our name
    if path not in _warned_folders:
        _warned_folders.add(path)
        logger.warning(
            "this user has no home directory: records wait in %s, which a restart of the machine may delete. Set "
            "HOME, or set %s to a folder",
            path,
            ENV_STATE_DIR,
        )
    return path
