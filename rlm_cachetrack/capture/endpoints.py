"""Recognize the recorded endpoints in request paths, and the provider in a client's base address."""

from __future__ import annotations

import re
from typing import Any

ENDPOINTS = {
    "/chat/completions": "chat.completions",
    "/responses": "responses",
    "/responses/compact": "responses.compact",
    "/completions": "completions",
    "/embeddings": "embeddings",
    "/decisions": "decisions",
    "/images/generations": "images.generate",
    "/images/edits": "images.edit",
    "/images/variations": "images.create_variation",
    "/audio/transcriptions": "audio.transcriptions",
    "/audio/translations": "audio.translations",
    "/audio/speech": "audio.speech",
    "/ocr": "ocr",  # of Mistral: client.post("/ocr", ...)
    "/videos": "videos",
    "/videos/edits": "videos",
    "/videos/extensions": "videos",
    "/videos/remix": "videos",
}
"""The paths of the recorded endpoints, without ids, and the API name that is stored for each."""

FREE_ENDPOINTS = {"/moderations": "moderations"}
"""The paths of endpoints that are free of charge, and recorded on request only."""

PROMPT_APIS = frozenset(("chat.completions", "responses", "responses.compact", "completions", "decisions"))
"""The APIs with a prompt cache, whose prompts get fingerprints."""

_PATHS = {**ENDPOINTS, **FREE_ENDPOINTS}
_ENDPOINT = re.compile(
    rf"(?:({'|'.join(map(re.escape, sorted(_PATHS, key=len, reverse=True)))})|/videos/[^/?]+(/remix))/?(?:\?.*)?$"
)
# Objects that a server works on after the request, and that state their usage when they are retrieved.
_STORED_OBJECT = re.compile(
    r"/(?:(responses)/(?!compact\b|input_tokens\b)[^/?]+(?:/cancel)?|(videos)/(?!characters\b)[^/?]+"
    r"|(batches)/[^/?]+(?:/cancel)?|(evals)/[^/?]+/runs/[^/?]+|fine_tuning/alpha/(graders)/run"
    r"|(agents)/sessions(?:/[^/?]+(?:/events|(?:/subagents/[^/?]+)?/turns(?:/[^/?]+)?)?)?)/?(?:\?.*)?$"
)

# Parts of host names, the more specific first. Sources: the `api_pattern` of each provider in genai-prices 0.2.3, the
# addresses in litellm/constants.py of LiteLLM 1.110.2, and for regional hosts
# https://developers.openai.com/api/docs/guides/data-residency; 2026-12-01.
_HOSTS = (
    ("api.openai.com", "openai"),  # also us., eu., au., in., jp. and the other regions
    ("api.anthropic.com", "anthropic"),
    ("openai.azure.", "azure"),  # .com, .us (government), .cn
    ("cognitiveservices.azure.", "azure"),
    ("services.ai.azure.", "azure"),
    ("models.ai.azure.com", "azure"),
    ("inference.ai.azure.com", "azure"),
    ("azure-api.net", "azure"),  # Azure API Management
    ("openrouter.ai", "openrouter"),
    ("api.deepseek.com", "deepseek"),
    ("api.groq.com", "groq"),
    ("api.x.ai", "xai"),
    ("mistral.ai", "mistral"),  # api. and codestral.
    ("api.moonshot", "moonshot"),
    ("api.perplexity.ai", "perplexity"),
    ("api.together", "together"),
    ("fireworks.ai", "fireworks"),
    ("generativelanguage.googleapis.com", "gemini"),
    ("aiplatform.googleapis.com", "vertex"),
    (".rep.googleapis.com", "vertex"),
    ("api.cerebras.ai", "cerebras"),
    ("ai-gateway.vercel.sh", "vercel-gateway"),
    ("bedrock", "bedrock"),  # bedrock-runtime.REGION.amazonaws.com, bedrock-mantle.REGION.api.aws
    ("databricks", "databricks"),  # cloud.databricks.com, azuredatabricks.net, gcp.databricks.com
    ("dashscope", "alibaba"),
    ("maas.aliyuncs.com", "alibaba"),
    ("api.z.ai", "zai"),
    ("bigmodel.cn", "zhipuai"),
    ("router.huggingface.co", "huggingface"),
    ("api.minimax", "minimax"),  # .io, .chat, and api.minimaxi.com
    ("api.novita.ai", "novita"),
    ("inference.baseten.co", "baseten"),  # not a user's own deployment, which is billed by the minute
    ("endpoints.kepler.ai.cloud.ovh.net", "ovhcloud"),
    ("api.cohere.", "cohere"),
    ("api.voyageai.com", "voyageai"),
    ("api.cloudflare.com", "cloudflare"),
    ("api.meta.ai", "meta"),
    ("api.arcee.ai", "arcee"),
    ("api.avian.io", "avian"),
    ("api.doubleword.ai", "doubleword"),
    ("api.quicksilverpro.io", "quicksilverpro"),
    ("api.typesafe.ai", "typesafe"),
    ("api.githubcopilot.com", "github-copilot"),
    ("models.github.ai", "github-models"),
    ("studio.nebius.", "nebius"),
    ("tokenfactory.nebius.", "nebius"),
    ("api.sambanova.ai", "sambanova"),
    ("api.hyperbolic.xyz", "hyperbolic"),
    ("api.nscale.com", "nscale"),
    ("api.publicai.co", "publicai"),
    ("api.deepinfra.com", "deepinfra"),
    ("api.nvidia.com", "nvidia"),
    ("snowflakecomputing.com", "snowflake"),
    ("ml.cloud.ibm.com", "watsonx"),
    ("inference.heroku.com", "heroku"),
)

_MAX_CACHED_ORIGINS = 1000
_cached_origins: dict[int, tuple[Any, type, tuple[str, str | None]]] = {}
# Hosts that select a region with other prices: data residency of OpenAI, GovCloud of AWS, Vertex AI. Sources:
# https://developers.openai.com/api/docs/guides/data-residency,
# https://docs.aws.amazon.com/general/latest/gr/bedrock.html,
# https://docs.cloud.google.com/gemini-enterprise-agent-platform/resources/locations; 2026-12-01.
_REGIONAL_HOST = re.compile(
    r"([a-z]{2,3})\.api\.openai\.com|bedrock-(?:runtime|mantle)(?:-fips)?\.(us-gov-[a-z]+-\d)\..+"
    r"|([a-z]+-[a-z]+\d+)-aiplatform\.googleapis\.com|aiplatform\.([a-z]{2,3})\.rep\.googleapis\.com"
)


def endpoint_of(url: str, *, free: bool = False) -> str | None:
    """Return the API name for the path of a request, or None if the endpoint is not recorded.

    Args:
        url: The path, also without its first slash (``client.post("chat/completions", ...)``), or a complete URL.
        free: Whether endpoints that are free of charge are recorded.
    """
    match = _ENDPOINT.search("/" + url)
    if match is None:
        return None
    path = match[1] or "/videos/remix"
    return ENDPOINTS.get(path) or (FREE_ENDPOINTS[path] if free else None)


def stored_object_of(url: str) -> str | None:
    """Return the kind of the object that a path retrieves, if it states its usage; None for other paths.

    Returns:
        ``responses``, ``videos``, ``batches``, ``evals``, ``graders`` or ``agents``.
    """
    match = _STORED_OBJECT.search(url)
    return None if match is None else match[match.lastindex or 0]


def origin_of(client: Any) -> tuple[str, str | None]:
    """Return the provider that serves a client, and the region of processing that its host selects.

    Both follow from the class of the client and its base address.

    Returns:
        A provider name such as ``openai``, or ``unknown@host`` if the host is not a known provider; a region such as
        ``eu``, or None.
    """
    # The property `base_url` copies the address, so the attribute behind it is compared. The entry keeps the address
    # alive, so its id stays unique.
    address = vars(client).get("_base_url")
    cached = _cached_origins.get(id(address))
    if cached is not None and cached[0] is address and cached[1] is type(client):
        return cached[2]
    origin = _find_provider(client, client.base_url), _find_region(address)
    if address is not None:
        if len(_cached_origins) >= _MAX_CACHED_ORIGINS:  # a program that makes a client for each request
            _cached_origins.clear()
        _cached_origins[id(address)] = (address, type(client), origin)
    return origin


def provider_of(client: Any) -> str:
    """Return the provider that serves a client, as :func:`origin_of` does."""
    return origin_of(client)[0]


def socket_provider_of(client: Any) -> str:
    """Return the provider of a client's websockets, which may have a separate base address."""
    address = getattr(client, "websocket_base_url", None)
    return provider_of(client) if address is None else _find_provider(client, type(client.base_url)(str(address)))


def socket_region_of(client: Any) -> str | None:
    """Return the region of processing that the host of a client's websockets selects; None if it selects none."""
    address = getattr(client, "websocket_base_url", None)
    return _find_region(client.base_url if address is None else type(client.base_url)(str(address)))


def _find_region(address: Any) -> str | None:
    found = _REGIONAL_HOST.fullmatch(_host_of(address))
    return None if found is None else found[found.lastindex or 0]


def _find_provider(client: Any, address: Any) -> str:
    class_name = type(client).__name__
    if "Azure" in class_name:
        return "azure"
    if "Bedrock" in class_name:
        return "bedrock"
    host = _host_of(address)
    for part, provider in _HOSTS:
        if part in host:
            return provider
    host_and_port = getattr(address, "netloc", b"")  # without user name and password
    return f"unknown@{host_and_port.decode('ascii', 'replace')}" if host_and_port else "unknown"


def _host_of(address: Any) -> str:
    return str(getattr(address, "host", "") or "").lower()
