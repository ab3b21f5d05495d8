"""Calls through the real SDK whose cost has more than four components: tools, regions, windows, audio, long writes.

Each expected cost is computed by hand from published prices in USD per 1M tokens; the comment has the arithmetic.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest

from rlm_cachetrack import flush, instrument
from tests.support.memory import MemorySink
from tests.support.transport import httpx

Reply = dict[str, Any]
OPENAI = "https://api.openai.com/v1"

pytestmark = pytest.mark.skipif(
    tuple(map(int, openai.__version__.split(".")[:2])) < (2, 0), reason="tools as typed in openai 2 and later"
)


def usd(value: float) -> object:
    return pytest.approx(value, rel=0, abs=1e-9)


def responses_reply(model: str, usage: dict[str, Any], *items: dict[str, Any], **more: Any) -> Reply:
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": "Done.", "annotations": []}],
    }
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1764550000,
        "status": "completed",
        "model": model,
        "output": [*items, message],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": usage["input_tokens"] + usage["output_tokens"],
            **usage,
        },
        **more,
    }


def chat_reply(model: str, **usage: Any) -> Reply:
    total = usage["prompt_tokens"] + usage["completion_tokens"]
    return {
        "id": "chatcmpl_1",
        "object": "chat.completion",
        "created": 1764550000,
        "model": model,
        "choices": [
            {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Done.", "refusal": None}}
        ],
        "usage": {**usage, "total_tokens": total},
    }


@pytest.fixture
def send(sink: MemorySink) -> Iterator[Callable[..., dict[str, Any]]]:
    """Return a function that sends one call to a server that returns ``reply``, and returns its row."""

    def send_one(
        reply: Reply, form: str = "plain", base_url: str = "https://api.openai.com/v1", **arguments: Any
    ) -> Any:
        def answer(request: Any) -> Any:
            if form != "stream":
                return httpx.Response(200, json=reply)
            event = {"type": "response.completed", "sequence_number": 0, "response": reply}
            body = f"event: response.completed\ndata: {json.dumps(event)}\n\n"
            return httpx.Response(200, content=body.encode(), headers={"content-type": "text/event-stream"})

        http_client = httpx.Client(transport=httpx.MockTransport(answer))
        client = openai.OpenAI(api_key="sk-test", base_url=base_url, http_client=http_client)
        instrument(client, store=sink, fingerprints=False)
        resource: Any = client.chat.completions if "choices" in reply else client.responses
        given = {"messages" if "choices" in reply else "input": [{"role": "user", "content": "hi"}], **arguments}
        if form == "raw":
            resource.with_raw_response.create(model=reply["model"], **given).parse()
        elif form == "stream":
            list(resource.create(model=reply["model"], stream=True, **given))
        else:
            resource.create(model=reply["model"], **given)
        return sink.rows[-1]

    yield send_one
    flush(120)


def search_call(number: int = 1, action: str = "search") -> dict[str, Any]:
    actions = {
        "search": {"type": "search", "query": "x"},
        "open_page": {"type": "open_page", "url": "https://a.example/"},
        "find_in_page": {"type": "find_in_page", "url": "https://a.example/", "pattern": "x"},
    }
    return {"id": f"ws_{number}", "type": "web_search_call", "status": "completed", "action": actions[action]}


FILE_SEARCH = {"id": "fs_1", "type": "file_search_call", "status": "completed", "queries": ["x"], "results": None}
INTERPRETER = {
    "id": "ci_1",
    "type": "code_interpreter_call",
    "status": "completed",
    "code": "1",
    "container_id": "c",
    "outputs": None,
}
MINI = {"input_tokens": 1_000, "output_tokens": 200}
NO_IMAGES = {
    "input_tokens": 0,
    "input_tokens_details": {"image_tokens": 0, "text_tokens": 0},
    "output_tokens": 0,
    "total_tokens": 0,
}


def stated(searches: int) -> dict[str, Any]:
    return {"tool_usage": {"image_gen": NO_IMAGES, "web_search": {"num_requests": searches}}}


# gpt-5-mini: 1,000 x 0.25 + 200 x 2 = 0.00065; a search is 0.01, a file search 0.0025
# (https://developers.openai.com/api/docs/pricing, 2026-12-01)
TOOLS = {
    "two searches": ([search_call(1), search_call(2)], stated(2), 0.02065, {"web_search": 2}, None),
    "counted without tool_usage": ([search_call(1), search_call(2)], {}, 0.02065, {"web_search": 2}, None),
    "one of two is billed": ([search_call(1), search_call(2)], stated(1), 0.01065, {"web_search": 1}, None),
    "none is billed": ([search_call(1)], stated(0), 0.00065, None, None),
    "pages are not billed": (
        [search_call(1), search_call(2, "open_page"), search_call(3, "find_in_page")],
        {},
        0.01065,
        {"web_search": 1},
        None,
    ),
    "a file search": ([FILE_SEARCH], {}, 0.00315, {"file_search": 1}, ["vector_store_storage"]),
    "code": ([INTERPRETER], {}, 0.00065, {"code_interpreter": 1}, ["code_interpreter"]),
    "all": (
        [search_call(), FILE_SEARCH, INTERPRETER],
        stated(1),
        0.01315,
        {"web_search": 1, "file_search": 1, "code_interpreter": 1},
        ["vector_store_storage", "code_interpreter"],
    ),
    "zero counts": ([], stated(0), 0.00065, None, None),
}


@pytest.mark.parametrize("form", ["plain", "raw", "stream"])
@pytest.mark.parametrize(("items", "more", "total", "uses", "excludes"), TOOLS.values(), ids=TOOLS.keys())
def test_hosted_tools_are_charged(send, form, items, more, total, uses, excludes):
    row = send(responses_reply("gpt-5-mini-2025-08-07", MINI, *items, **more), form)
    assert row["total_cost"] == usd(total)
    assert row["original_cost"] == usd(total)
    assert row["tool_usage"] == uses
    assert row["cost_excludes"] == excludes
    assert row["unpriced_reason"] is None
    assert sum(charge["amount"] for charge in row["charges"] or ()) == usd(total - 0.00065)
    for charge in row["charges"] or ():
        assert charge["amount"] == usd(charge["quantity"] * charge["price"])


@pytest.mark.parametrize(("model", "tokens"), [("gpt-5-mini", 0.00065), ("gpt-6.2-sol", 0.004)])
def test_a_search_on_azure_has_the_price_of_grounding_with_bing(send, model, tokens):
    # $14 per 1,000 (https://github.com/microsoft/Foundry-Agent-Solution-Templates, cost.md, 2026-12-01)
    reply = responses_reply(model, MINI, search_call(), FILE_SEARCH, **stated(1))
    row = send(reply, base_url="https://acme.openai.azure.com/openai/v1")
    assert row["total_cost"] == usd(tokens + 0.014 + 0.0025)


@pytest.mark.parametrize("output", [[], None], ids=["no items", "no output"])
def test_tools_are_charged_if_the_end_of_a_stream_does_not_repeat_the_output(sink, output):
    final = {**responses_reply("gpt-5-mini", MINI), "output": output}
    items = [search_call(1), FILE_SEARCH, {"id": "m", "type": "message", "role": "assistant", "content": []}]
    events = [{"type": "response.output_item.done", "output_index": 0, "item": item} for item in items]
    events.append({"type": "response.completed", "response": final})
    lines = [json.dumps({**event, "sequence_number": number}) for number, event in enumerate(events)]
    body = "".join(f"data: {line}\n\n" for line in lines).encode()

    def answer(_: Any) -> Any:
        return httpx.Response(200, content=body, headers={"content-type": "text/event-stream"})

    http_client = httpx.Client(transport=httpx.MockTransport(answer))
    client = openai.OpenAI(api_key="sk-test", http_client=http_client)
    instrument(client, store=sink, fingerprints=False)
    list(client.responses.create(model="gpt-5-mini", input="hi", stream=True))
    flush(10)
    assert sink.row["total_cost"] == usd(0.00065 + 0.01 + 0.0025)


def test_the_usual_call_has_no_further_columns(send):
    row = send(responses_reply("gpt-5-mini", MINI))
    for name in ("token_details", "tool_usage", "request_options", "charges", "unpriced_reason", "cost_excludes"):
        assert row[name] is None


def test_generated_images_are_charged_at_the_prices_of_their_model(send):
    image = {"id": "ig_1", "type": "image_generation_call", "status": "completed", "result": "aGk="}
    tokens = {
        "input_tokens": 1_200,
        "input_tokens_details": {"image_tokens": 1_000, "text_tokens": 200},
        "output_tokens": 4_160,
        "total_tokens": 5_360,
        "output_tokens_details": {"image_tokens": 4_160, "text_tokens": 0},
    }
    usage = {"image_gen": tokens, "web_search": {"num_requests": 0}}
    tools = [{"type": "image_generation", "model": "gpt-image-1.5"}]
    row = send(responses_reply("gpt-5-mini", MINI, image, tool_usage=usage, tools=tools))
    # 0.00065 and, with gpt-image-1.5, 200 x 5 + 1,000 x 8 + 4,160 x 32
    assert row["total_cost"] == usd(0.00065 + 0.14212)
    assert {charge["item"]: charge["quantity"] for charge in row["charges"]} == {
        "image_generation_prompt": 200,
        "image_generation_image_prompt": 1_000,
        "image_generation_image_completion": 4_160,
    }
    assert "aGk=" not in json.dumps(row, default=str)


def test_images_without_token_counts_or_without_a_model_are_unpriced(send):
    image = {"id": "ig_1", "type": "image_generation_call", "status": "completed", "result": "aGk="}
    row = send(responses_reply("gpt-5-mini", MINI, image))
    assert row["total_cost"] is None
    assert "image generation" in row["unpriced_reason"]


@pytest.mark.parametrize("region", ["eu", "us", "in", "jp", "au"])
def test_data_residency_costs_a_tenth_more(send, region):
    row = send(responses_reply("gpt-6.1-terra", MINI), base_url=f"https://{region}.api.openai.com/v1")
    assert row["total_cost"] == usd(0.0022)  # (1,000 x 1 + 200 x 5) x 1.1
    assert row["request_options"] == {"region": region}
    assert row["provider"] == "openai"


def test_data_residency_costs_nothing_for_models_before_march_2026(send):
    row = send(responses_reply("gpt-5-mini", MINI), base_url="https://eu.api.openai.com/v1")
    assert row["total_cost"] == usd(0.00065)
    assert row["request_options"] == {"region": "eu"}


def test_the_fee_of_a_tool_does_not_depend_on_the_region(send):
    reply = responses_reply("gpt-6.1-terra", MINI, search_call(), **stated(1))
    row = send(reply, base_url="https://eu.api.openai.com/v1")
    assert row["total_cost"] == usd(0.0022 + 0.01)


SOL = {"input_tokens": 100_000, "output_tokens": 1_000}  # 100,000 x 2 + 1,000 x 10 = 0.21


@pytest.mark.parametrize(
    ("background", "options", "total"),
    [
        (True, {"completion_window": "8h"}, 0.126),
        (True, {"completion_window": "2h"}, 0.147),
        (True, {"completion_window": "soonest"}, 0.21),
        (True, None, 0.21),
        (False, {"completion_window": "8h"}, 0.21),  # the windows apply to background requests only
    ],
)
def test_a_completion_window_is_a_discount(send, background, options, total):
    body = {"background": background} | ({} if options is None else {"background_options": options})
    row = send(responses_reply("gpt-6.1-sol", SOL), extra_body=body)
    assert row["total_cost"] == usd(total)


def test_an_unknown_completion_window_is_unpriced(send):
    body = {"background": True, "background_options": {"completion_window": "5d"}}
    row = send(responses_reply("gpt-6.1-sol", SOL), extra_body=body)
    assert row["total_cost"] is None
    assert row["unpriced_reason"] == "no price for completion window 5d of gpt-6.1-sol"


@pytest.mark.parametrize("stored_first", [False, True])
def test_a_completion_window_is_kept_until_a_later_retrieval(sink: MemorySink, stored_first: bool):
    response_id = f"resp_window_{stored_first}"  # the usage of one id is counted once
    done = responses_reply("gpt-6.1-sol", SOL, id=response_id, background=True)
    queued = {**copy.deepcopy(done), "status": "queued", "output": [], "usage": None}

    def answer(request: Any) -> Any:
        return httpx.Response(200, json=queued if request.method == "POST" else done)

    http_client = httpx.Client(transport=httpx.MockTransport(answer))
    client = instrument(openai.OpenAI(api_key="sk-test", http_client=http_client), store=sink, fingerprints=False)
    body = {"background": True, "background_options": {"completion_window": "8h"}}
    client.responses.create(model="gpt-6.1-sol", input="hi", extra_body=body)
    if stored_first:
        assert [row["total_cost"] for row in sink.rows] == [None]
    client.responses.retrieve(response_id)
    row = next(row for row in sink.rows if row["prompt_tokens"] is not None)
    assert row["total_cost"] == usd(0.126)
    assert row["request_options"] == {"completion_window": "8h"}


LONG_WRITES = {
    "all for 12 hours": (100_000, 0, 0.2506),  # 100 x 1 + 100,000 x 2.50 + 100 x 5
    "mixed": (60_000, 40_000, 0.2006),  # 100 x 1 + 60,000 x 2.50 + 40,000 x 1.25 + 100 x 5
    "all for 30 minutes": (0, 100_000, 0.1256),  # 100 x 1 + 100,000 x 1.25 + 100 x 5
}


@pytest.mark.parametrize(("long", "short", "total"), LONG_WRITES.values(), ids=LONG_WRITES.keys())
def test_a_write_is_charged_by_its_retention(send, long, short, total):
    details = {
        "cached_tokens": 0,
        "cache_write_tokens": 100_000,
        "cache_write_tokens_details": {"ttl_12h_tokens": long, "ttl_30m_tokens": short},
    }
    usage = {"input_tokens": 100_100, "input_tokens_details": details, "output_tokens": 100}
    row = send(responses_reply("gpt-6.1-terra", usage))
    assert row["total_cost"] == usd(total)
    assert row["original_cost"] == usd(0.1006)  # 100,100 x 1 + 100 x 5
    assert row["cache_write_tokens"] == 100_000
    assert row["token_details"] == ({"cache_write_12h_tokens": long} if long else None)


@pytest.mark.parametrize("with_sum", [True, False])
def test_a_one_hour_write_of_claude_is_charged_twice_the_input(send, with_sum):
    usage = {
        "prompt_tokens": 20_100,
        "completion_tokens": 100,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 20_000},
    }
    if with_sum:
        usage |= {"cache_creation_input_tokens": 20_000, "cache_read_input_tokens": 0}
    row = send(chat_reply("claude-sonnet-4-5", **usage), base_url="https://gateway.example/v1")
    assert row["total_cost"] == usd(0.1218)  # 100 x 3 + 20,000 x 6 + 100 x 15
    assert row["cache_write_tokens"] == 20_000


AUDIO = {
    "audio out": ("gpt-audio-2025-08-28", 17, 0, 592, 482, 0.0319905),  # 17 x 2.50 + 110 x 10 + 482 x 64
    "audio in": ("gpt-audio-mini-2025-12-15", 1_000, 900, 100, 0, 0.0093),  # 100 x 0.60 + 900 x 10 + 100 x 2.40
    "no audio": ("gpt-4o-audio-preview", 1_000, 0, 100, 0, 0.0035),  # 1,000 x 2.50 + 100 x 10
}


@pytest.mark.parametrize(
    ("model", "prompt", "heard", "completion", "spoken", "total"), AUDIO.values(), ids=AUDIO.keys()
)
def test_audio_has_its_own_price(send, model, prompt, heard, completion, spoken, total):
    row = send(
        chat_reply(
            model,
            prompt_tokens=prompt,
            completion_tokens=completion,
            prompt_tokens_details={"audio_tokens": heard, "cached_tokens": 0},
            completion_tokens_details={"audio_tokens": spoken, "reasoning_tokens": 0},
        )
    )
    assert row["total_cost"] == row["original_cost"] == usd(total)


def test_audio_is_never_charged_as_text(send):
    row = send(
        chat_reply(
            "gpt-4o-audio-preview",
            prompt_tokens=1_000,
            completion_tokens=100,
            prompt_tokens_details={"audio_tokens": 900},
            completion_tokens_details={"audio_tokens": 80},
        )
    )
    assert row["total_cost"] is row["original_cost"] is None
    expected = "no price for audio input tokens and audio output tokens of gpt-4o-audio-preview"
    assert row["unpriced_reason"] == expected
    assert row["prompt_token_price"] == 0.0025


def test_a_search_model_has_a_fee_for_each_request(send):
    row = send(chat_reply("gpt-4o-search-preview", prompt_tokens=1_000, completion_tokens=200))
    assert row["total_cost"] == usd(0.0295)  # 1,000 x 2.50 + 200 x 10, and 25 per 1,000 requests


def test_a_failed_call_is_not_unpriced(sink: MemorySink):
    def answer(request: Any) -> Any:
        return httpx.Response(401, json={"error": {"message": "no", "type": "invalid_request_error"}})

    http_client = httpx.Client(transport=httpx.MockTransport(answer))
    client = instrument(openai.OpenAI(api_key="sk-test", http_client=http_client, max_retries=0), store=sink)
    with pytest.raises(openai.AuthenticationError):
        client.responses.create(model="no-such-model", input="hi")
    assert sink.row["unpriced_reason"] is None


def test_an_unknown_model_has_a_reason(send):
    row = send(responses_reply("no-such-model", MINI))
    assert row["total_cost"] is None
    assert row["unpriced_reason"] == "no price for no-such-model (provider openai)"
