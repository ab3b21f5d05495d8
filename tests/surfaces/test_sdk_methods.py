"""The tables know every method of the installed SDK, and the table of endpoints agrees with them."""

from __future__ import annotations

import inspect

import openai
import pytest
from openai import OpenAI

from rlm_cachetrack.capture import NEWEST_TESTED_SDK
from tests.surfaces.calls import TESTED
from tests.surfaces.sdk_methods import NOT_RECORDED, ON_REQUEST, RECORDED, free, methods

KNOWN = {*RECORDED, *ON_REQUEST, *NOT_RECORDED, *free()}


def test_every_method_of_the_installed_sdk_is_known() -> None:
    assert sorted(set(methods()) - KNOWN) == [], "classify them in tests/surfaces/sdk_methods.py"


@pytest.mark.skipif(openai.__version__ != TESTED[-1], reason="older versions lack methods that the tables name")
def test_the_tables_name_only_methods_that_exist() -> None:
    assert sorted(KNOWN - set(methods())) == []


def test_each_method_is_in_one_table() -> None:
    names = [*RECORDED, *ON_REQUEST, *NOT_RECORDED, *free()]
    assert len(names) == len(set(names))
    assert all(NOT_RECORDED.values())


@pytest.mark.skipif(
    int(openai.__version__.partition(".")[0]) < 3, reason=f"openai {openai.__version__} does not know these arguments"
)
def test_the_walk_finds_methods_of_nested_resources() -> None:
    found = methods()
    with OpenAI(api_key="x") as client:
        assert inspect.ismethod(client.chat.completions.create)
    assert {"chat.completions.create", "beta.threads.runs.create", "audio.speech.create", "responses.create"} <= {
        *found
    }


def test_doctor_knows_the_newest_tested_version() -> None:
    assert TESTED[-1] == NEWEST_TESTED_SDK
