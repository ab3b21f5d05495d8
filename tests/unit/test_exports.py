"""The public API: its names, their documentation, and the hierarchy of errors."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import pkgutil
import subprocess
import sys
import types
from typing import Any

import pytest

import rlm_cachetrack
from rlm_cachetrack import errors

PUBLIC = [
    "CacheTrackError",
    "ConfigError",
    "ContextThreadPoolExecutor",
    "LLMInteractionRecord",
    "PricingError",
    "QueryRun",
    "RecordBatch",
    "RecordError",
    "RecordSink",
    "StoreError",
    "StoreUnreachableError",
    "TimescaleDBClient",
    "__version__",
    "active_run",
    "errors",
    "flush",
    "instrument",
    "query_run",
    "shutdown",
    "stats",
    "tags",
    "uninstrument",
]


def modules() -> list[types.ModuleType]:
    names = [found.name for found in pkgutil.walk_packages(rlm_cachetrack.__path__, "rlm_cachetrack.")]
    return [rlm_cachetrack, *(importlib.import_module(name) for name in names if not name.endswith("__main__"))]


def is_ours(thing: Any) -> bool:
    return str(getattr(thing, "__module__", "")).startswith("rlm_cachetrack")


def test_the_public_names_match_the_list() -> None:
    """Adding a public name is a decision and removing one breaks programs, so this list must change with them."""
    assert sorted(rlm_cachetrack.__all__) == sorted(PUBLIC)


def test_dir_lists_the_public_names_before_their_first_use() -> None:
    program = "import rlm_cachetrack, json; print(json.dumps(dir(rlm_cachetrack)))"
    found = json.loads(subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout)
    assert found == sorted(PUBLIC)


@pytest.mark.parametrize("module", modules(), ids=lambda module: module.__name__)
def test_all_names_exist_and_are_listed_once(module: types.ModuleType) -> None:
    assert module.__doc__
    names = getattr(module, "__all__", [])
    assert len(names) == len(set(names))
    assert [name for name in names if not hasattr(module, name)] == []


def public_members() -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name in PUBLIC:
        thing = getattr(rlm_cachetrack, name)
        if name in ("__version__", "errors"):
            continue
        found.append((name, thing))
        if inspect.isclass(thing):
            for attribute, value in inspect.getmembers(thing):
                if attribute.startswith("_") or not (inspect.isroutine(value) or isinstance(value, property)):
                    continue
                if is_ours(value) or (isinstance(value, property) and is_ours(value.fget)):
                    found.append((f"{name}.{attribute}", value))
    return found


@pytest.mark.parametrize(("name", "thing"), public_members(), ids=[name for name, _ in public_members()])
def test_everything_public_is_documented_and_typed(name: str, thing: Any) -> None:
    assert inspect.getdoc(thing), f"{name} has no docstring"
    if inspect.isfunction(thing):
        signature = inspect.signature(thing)
        assert signature.return_annotation is not inspect.Signature.empty, name
        for parameter in signature.parameters.values():
            if parameter.name != "self":
                assert parameter.annotation is not inspect.Parameter.empty, f"{name}({parameter.name})"


def test_the_record_describes_its_units() -> None:
    text = inspect.getdoc(rlm_cachetrack.LLMInteractionRecord) or ""
    for word in ("USD per 1,000 tokens", "None means not reported", "0 means none"):
        assert word in text
    assert dataclasses.is_dataclass(rlm_cachetrack.LLMInteractionRecord)


def test_one_except_clause_catches_every_error_of_the_library() -> None:
    for name in errors.__all__:
        kind = getattr(errors, name)
        assert issubclass(kind, (errors.CacheTrackError, Warning))
        assert inspect.getdoc(kind)
        assert name in (errors.__doc__ or ""), f"{name} is missing in the hierarchy of errors"


def test_the_hierarchy_of_errors() -> None:
    assert issubclass(errors.PricingError, errors.ConfigError)
    assert issubclass(errors.ConfigError, ValueError)
    assert issubclass(errors.RecordError, ValueError)
    for kind in (errors.StoreUnreachableError, errors.MigrationError, errors.QueryError):
        assert issubclass(kind, errors.StoreError)
    assert issubclass(errors.EmbeddedError, errors.StoreUnreachableError)
    assert issubclass(errors.SchemaTooNewError, errors.MigrationError)
    assert not issubclass(errors.StoreError, ValueError)


def test_the_version_is_a_version() -> None:
    assert [part.isdigit() for part in rlm_cachetrack.__version__.split(".")[:2]] == [True, True]
