"""The provider follows from a client's class and address; for an unknown provider the host is stored."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

from rlm_cachetrack import TimescaleDBClient, instrument, query_run
from rlm_cachetrack.capture.endpoints import provider_of
from tests.support.memory import MemorySink
from tests.support.scripted import ScriptedServer
from tests.surfaces.calls import BY_NAME, MODES, call, client_of, entering, run

ADDRESSES = {
    "https://api.openai.com/v1": "openai",
    "https://eu.api.openai.com/v1": "openai",
    "https://someone.openai.azure.com/openai/v1/": "azure",
    "https://someone.services.ai.azure.com/openai/v1": "azure",
    "https://openrouter.ai/api/v1": "openrouter",
    "https://api.deepseek.com": "deepseek",
    "https://api.groq.com/openai/v1": "groq",
    "https://api.x.ai/v1": "xai",
    "https://api.mistral.ai/v1": "mistral",
    "https://api.moonshot.ai/v1": "moonshot",
    "https://api.moonshot.cn/v1": "moonshot",
    "https://api.perplexity.ai": "perplexity",
    "https://api.together.xyz/v1": "together",
    "https://api.fireworks.ai/inference/v1": "fireworks",
    "https://generativelanguage.googleapis.com/v1beta/openai/": "gemini",
    "https://api.cerebras.ai/v1": "cerebras",
    "https://ai-gateway.vercel.sh/v1": "vercel-gateway",
    "https://bedrock-runtime.us-west-2.amazonaws.com/openai/v1": "bedrock",
    "https://adb-1.azuredatabricks.net/serving-endpoints": "databricks",
    "https://dashscope-intl.aliyuncs.com/compatible-mode/v1": "alibaba",
    "https://router.huggingface.co/v1": "huggingface",
    "https://api.anthropic.com/v1/": "anthropic",
    "https://us-east-1.api.x.ai/v1": "xai",
    "https://codestral.mistral.ai/v1": "mistral",
    "https://someone.openai.azure.us/openai/v1/": "azure",
    "https://someone.azure-api.net/openai/v1/": "azure",
    "https://us-central1-aiplatform.googleapis.com/v1/projects/p/locations/l/endpoints/openapi": "vertex",
    "https://aiplatform.eu.rep.googleapis.com/v1/projects/p/locations/eu/endpoints/openapi": "vertex",
    "https://aiplatform.googleapis.com/v1/projects/p/locations/global/endpoints/openapi": "vertex",
    "https://bedrock-mantle.us-east-1.api.aws/v1": "bedrock",
    "https://dbc-1.cloud.databricks.com/serving-endpoints": "databricks",
    "https://dashscope.aliyuncs.com/compatible-mode/v1": "alibaba",
    "https://api.z.ai/api/paas/v4/": "zai",
    "https://open.bigmodel.cn/api/paas/v4/": "zhipuai",  # another price list than api.z.ai
    "https://api.minimax.io/v1": "minimax",
    "https://api.minimaxi.com/v1": "minimax",
    "https://api.novita.ai/openai": "novita",
    "https://inference.baseten.co/v1": "baseten",
    "https://model-abc.api.baseten.co/sync/v1": "unknown@model-abc.api.baseten.co",  # a user's own deployment
    "https://oai.endpoints.kepler.ai.cloud.ovh.net/v1": "ovhcloud",
    "https://api.cohere.ai/compatibility/v1": "cohere",
    "https://api.tokenfactory.nebius.com/v1/": "nebius",
    "https://api.cloudflare.com/client/v4/accounts/a/ai/v1": "cloudflare",
    "https://acme.snowflakecomputing.com/api/v2/cortex/v1": "snowflake",
    "http://localhost:8000/v1": "unknown@localhost:8000",
    "https://llm.example.org/v1": "unknown@llm.example.org",
    "https://someone:hunter2@llm.example.org:8443/v1": "unknown@llm.example.org:8443",
    "http://[::1]:8000/v1": "unknown@[::1]:8000",
}


@pytest.mark.parametrize(("address", "provider"), ADDRESSES.items())
def test_the_address_determines_the_provider_or_the_host(address: str, provider: str) -> None:
    with OpenAI(api_key="k", base_url=address, http_client=openai.DefaultHttpxClient(verify=False)) as client:
        assert provider_of(client) == provider


def test_an_invalid_address_has_an_unknown_provider() -> None:
    assert provider_of(SimpleNamespace(base_url=None)) == "unknown"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("form", ["plain", "stream", "raw"])
def test_the_host_of_an_unknown_provider_is_stored_and_the_model_is_priced(
    server: ScriptedServer, sink: MemorySink, form: str, mode: str
) -> None:
    async def act() -> None:
        address = server.url.replace("http://", "http://someone:hunter2@")
        async with entering(client_of(server, mode, base_url=address)) as client:
            instrument(client, store=sink)
            await call(client, BY_NAME["chat.completions.create"], form)

    run(mode, act())
    row = sink.row
    assert row["provider"] == "unknown"
    assert row["metadata"]["host"] == server.origin.removeprefix("http://")
    assert "hunter2" not in str(row)
    # gpt-5: 1.25 USD, 0.125 USD cached, 10 USD output per 1M tokens; 1,024 of 1,200 prompt tokens were cached
    assert row["total_cost"] == pytest.approx(176 * 1.25e-6 + 1024 * 0.125e-6 + 34 * 10e-6, abs=1e-12)


def test_a_failure_and_a_known_provider_keep_it_apart(server: ScriptedServer, sink: MemorySink) -> None:
    with client_of(server, "sync") as client:
        instrument(client, store=sink)
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(
                **BY_NAME["chat.completions.create"].arguments, extra_headers={"x-fault": "400"}
            )
    failed = sink.row
    assert (failed["provider"], failed["metadata"]["status_code"]) == ("unknown", 400)
    assert failed["metadata"]["host"] == server.origin.removeprefix("http://")


class Rerouted(httpx.HTTPTransport):
    """Sends every request to the scripted server, whatever its address."""

    def __init__(self, server: ScriptedServer) -> None:
        super().__init__()
        self._to = httpx.URL(server.origin)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.url = request.url.copy_with(scheme="http", host=self._to.host, port=self._to.port)
        return super().handle_request(request)


def test_provider_and_host_are_found_in_the_database(server: ScriptedServer, db_url: str) -> None:
    arguments: dict[str, Any] = BY_NAME["chat.completions.create"].arguments
    instrument(store=db_url)
    with query_run("q") as run_:
        for address in ("https://api.openai.com/v1", "https://llm.example.org/v1"):
            http = httpx.Client(transport=Rerouted(server))
            with OpenAI(api_key="k", base_url=address, http_client=http) as client:
                client.chat.completions.create(**arguments)
    with TimescaleDBClient(db_url) as db:
        known, unknown = db.get_llm_interactions(run_.query_id, run_.run_id)
    assert (known["provider"], "host" in known["metadata"]) == ("openai", False)
    assert (unknown["provider"], unknown["metadata"]["host"]) == ("unknown", "llm.example.org")
    assert known["total_cost"] == unknown["total_cost"] > 0
