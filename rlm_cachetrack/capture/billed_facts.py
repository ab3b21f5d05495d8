"""Facts other than tokens that determine the price of a call: hosted tools, region, completion window."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rlm_cachetrack.usage import STANDARD_SPEED, is_count

from .fields import get_field, list_of

HOSTED_TOOLS = {
    "web_search_call": "web_search",
    "file_search_call": "file_search",
    "code_interpreter_call": "code_interpreter",
    "image_generation_call": "image_generation",
    "shell_call": "shell",
}
"""The output items of tools that the provider runs and charges for, and the names of the tools.

Calls of functions, of MCP servers and of computers have no fee. Source:
https://developers.openai.com/api/docs/pricing, 2026-12-01.
"""


def tool_usage_of(
    response: Mapping[str, Any], items: Iterable[Mapping[str, Any]], body: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Return the billed uses of hosted tools, by tool; None if there are none.

    The counts in ``response.tool_usage`` come first, because not every search is billed. Where it is absent, output
    items are counted.

    Args:
        response: The fields of the response.
        items: Its output items of hosted tools.
        body: The request body, for the kind of search and the model that generates images.
    """
    uses: dict[str, Any] = {}
    for item in items:
        tool = HOSTED_TOOLS[item["type"]]
        if _is_billed(item):
            uses[tool] = uses.get(tool, 0) + 1
        if (drawing := svg_usage_of(item.get("svg_usage"), uses.get("svg_generation"))) is not None:
            uses["svg_generation"] = drawing
    stated = response.get("tool_usage")
    searches = get_field(get_field(stated, "web_search"), "num_requests")
    if searches == 0 or is_count(searches):
        uses["web_search"] = searches
    tools = list_of(response.get("tools")) or list_of(body.get("tools"))
    images = _image_tokens(get_field(stated, "image_gen"))
    if images or "image_generation" in uses:
        model = next(
            (get_field(tool, "model") for tool in tools if get_field(tool, "type") == "image_generation"), None
        )
        uses["image_generation"] = {"calls": uses.get("image_generation", 0), "model": model, **images}
    if uses.get("web_search") and any(str(get_field(tool, "type")).startswith("web_search_preview") for tool in tools):
        uses["web_search_preview"] = uses.pop("web_search")
    return {tool: used for tool, used in uses.items() if used} or None


def svg_usage_of(stated: Any, before: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
    """Return the tokens of the language model that wrote an SVG, which has its own price; None if there are none.

    Args:
        stated: The field ``svg_usage``.
        before: The usage for earlier SVGs of the call, to which it is added.
    """
    if stated is None:
        return None
    before = before or {}
    counts = {
        "prompt_tokens": get_field(stated, "input_tokens"),
        "completion_tokens": get_field(stated, "output_tokens"),
        "total_tokens": get_field(stated, "total_tokens"),
    }
    used = {name: count + before.get(name, 0) for name, count in counts.items() if is_count(count)}
    return {"calls": before.get("calls", 0) + 1, "model": get_field(stated, "model"), **used}


def _is_billed(item: Mapping[str, Any]) -> bool:
    if item["type"] == "web_search_call":  # opening a page and searching in it are not billed
        return get_field(item.get("action"), "type") in ("search", None) and item.get("status") != "failed"
    if item["type"] == "shell_call":
        return str(get_field(item.get("environment"), "type")) != "local"
    return True


def _image_tokens(stated: Any) -> dict[str, int]:
    """Return the tokens of generated images by the names of ``token_details``; empty if there are none."""
    if not get_field(stated, "total_tokens"):
        return {}
    inputs, outputs = get_field(stated, "input_tokens_details"), get_field(stated, "output_tokens_details")
    counts = {
        "prompt_tokens": get_field(stated, "input_tokens"),
        "image_prompt_tokens": get_field(inputs, "image_tokens"),
        "cached_tokens": get_field(stated, "cached_tokens"),
        "image_cached_tokens": get_field(get_field(stated, "cached_tokens_details"), "cached_image_tokens"),
        "completion_tokens": get_field(stated, "output_tokens"),
        "text_completion_tokens": get_field(outputs, "text_tokens"),
        "total_tokens": get_field(stated, "total_tokens"),
    }
    return {name: count for name, count in counts.items() if is_count(count)}


_LONGEST_SIZE = 20


def request_options_of(body: Mapping[str, Any], region: str | None, provider: str) -> dict[str, str]:
    """Return the region of processing, the size of the search context, speed, and the window of a background request.

    Args:
        body: The request body.
        region: The region that the host selects; None: the usual one.
        provider: The provider, as :func:`.endpoints.provider_of` returns it.
    """
    options = {} if region is None else {"region": region}
    # Anthropic's own endpoint for the OpenAI SDK ignores both fields, and other models may give them another meaning.
    if provider != "anthropic" and "claude" in str(body.get("model")).lower():
        for name, field, usual in (("region", "inference_geo", "global"), ("speed", "speed", STANDARD_SPEED)):
            value = body.get(field)
            if type(value) is str and value != usual and len(value) <= _LONGEST_SIZE:
                options[name] = value
    size = get_field(body.get("web_search_options"), "search_context_size")
    if type(size) is str and len(size) <= _LONGEST_SIZE:
        options["search_context_size"] = size
    window = get_field(body.get("background_options"), "completion_window")
    if type(window) is str and window != "soonest" and body.get("background"):
        options["completion_window"] = window
    return options
