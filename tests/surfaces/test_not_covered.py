"""Calls that the library does not cover have the same result and no record."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from rlm_cachetrack import instrument
from tests.support.deep import describe
from tests.support.memory import MemorySink
from tests.support.scripted import ScriptedServer
from tests.surfaces.calls import MODES, client_of, settled, with_and_without

OTHERS: dict[str, Any] = {
    "moderations.create": {"input": "hello"},
    "models.retrieve": {"model": "gpt-5"},
    "batches.create": {"completion_window": "24h", "endpoint": "/v1/responses", "input_file_id": "file"},
    "chat.completions.retrieve": {"completion_id": "chatcmpl-1"},
    "responses.input_tokens.count": {"model": "gpt-5", "input": "hello"},
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", OTHERS)
def test_calls_that_are_not_covered_pass_through_unrecorded(
    server: ScriptedServer, sink: MemorySink, name: str, mode: str
) -> None:
    """The scripted server does not implement these calls; their errors must be the same, too."""

    async def act(client: Any) -> Any:
        method = client
        for part in name.split("."):
            if not hasattr(method, part):
                pytest.skip(f"openai {openai.__version__} has no {name}")
            method = getattr(method, part)
        return describe(await settled(method(**OTHERS[name])))

    with_us, without = with_and_without(
        server, mode, lambda: client_of(server, mode), lambda client: instrument(client, store=sink), act
    )
    assert with_us == without
    assert len(server.requests) == 1
    assert sink.rows == []
