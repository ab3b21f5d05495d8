"""Images, audio, videos, decisions and moderations: the caller gets the same, and each call is one record."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from rlm_cachetrack import flush, instrument
from tests.support.deep import describe
from tests.support.memory import MemorySink
from tests.support.scripted import REQUEST_ID, ScriptedServer
from tests.support.scripted_media import (
    AUDIO_TOKENS,
    BINARY,
    DECISION_USAGE,
    IMAGE_USAGE,
    SECONDS,
    SPEECH_USAGE,
    TRANSCRIPT,
)
from tests.surfaces.calls import (
    MODES,
    assert_recording_changes_nothing,
    client_of,
    entering,
    items,
    settled,
    with_and_without,
)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # videos and create_variation are deprecated

Json = dict[str, Any]
SECRET = "the prompt that nobody may read"
FILE = ("voice.mp3", b"bytes of a file", "audio/mpeg")
PICTURE = ("picture.png", b"bytes of a file", "image/png")
FORMS = ("plain", "raw", "streaming response")
IMAGE = {"images": 2, "image_prompt_tokens": 30, "image_completion_tokens": 400}
SPEECH = {"characters": len(SECRET)}

# name of the method, arguments, API, usage, token_details, cost in USD (prices: genai-prices 0.2.3; None: unpriced)
CALLS: dict[str, tuple[str, Json, str, Any, Any, float | None]] = {
    "images.generate": (
        "images.generate", {"model": "gpt-image-2", "prompt": SECRET}, "images.generate",
        IMAGE_USAGE, IMAGE, (20 * 5 + 30 * 8 + 400 * 30) / 1e6,
    ),
    "images.generate, output image price": (
        "images.generate", {"model": "chatgpt-image-latest", "prompt": SECRET}, "images.generate",
        IMAGE_USAGE, IMAGE, (20 * 5 + 30 * 8 + 400 * 32) / 1e6,
    ),
    "images.edit": (
        "images.edit", {"model": "gpt-image-2", "prompt": SECRET, "image": PICTURE}, "images.edit",
        IMAGE_USAGE, IMAGE, (20 * 5 + 30 * 8 + 400 * 30) / 1e6,
    ),
    "images.create_variation": (
        "images.create_variation", {"model": "dall-e-2", "image": PICTURE}, "images.create_variation",
        None, {"images": 2}, None,
    ),
    "transcriptions by tokens": (
        "audio.transcriptions.create", {"model": "gpt-4o-transcribe", "file": FILE}, "audio.transcriptions",
        AUDIO_TOKENS, {"audio_prompt_tokens": 100}, (100 * 6 + 20 * 2.5 + 15 * 10) / 1e6,
    ),
    "transcriptions by seconds": (
        "audio.transcriptions.create", {"model": "whisper-1", "file": FILE, "response_format": "verbose_json"},
        "audio.transcriptions", SECONDS, {"seconds": 12.5}, 12.5 * 0.36 / 3600,
    ),
    "transcriptions as text": (
        "audio.transcriptions.create", {"model": "whisper-1", "file": FILE, "response_format": "text"},
        "audio.transcriptions", None, None, None,
    ),
    "translations by their length": (
        "audio.translations.create", {"model": "whisper-1", "file": FILE, "response_format": "verbose_json"},
        "audio.translations", None, {"seconds": 12.5}, 12.5 * 0.36 / 3600,
    ),
    "translations": (
        "audio.translations.create", {"model": "whisper-1", "file": FILE}, "audio.translations", None, None, None,
    ),
    "speech": (
        "audio.speech.create", {"model": "tts-1", "voice": "alloy", "input": SECRET}, "audio.speech",
        None, SPEECH, len(SECRET) * 15 / 1e6,
    ),
    "speech by tokens": (
        "audio.speech.create", {"model": "gpt-4o-mini-tts", "voice": "alloy", "input": SECRET}, "audio.speech",
        None, SPEECH, None,
    ),
    "speech as events": (
        "audio.speech.create",
        {"model": "gpt-4o-mini-tts", "voice": "alloy", "input": SECRET, "extra_body": {"stream_format": "sse"}},
        "audio.speech", SPEECH_USAGE, SPEECH, (3 * 0.6 + 90 * 12) / 1e6,
    ),
    "decisions": (
        "decisions.create", {"model": "gpt-6-luna", "input": SECRET, "questions": []}, "decisions",
        DECISION_USAGE, None, 0.0,
    ),
}  # fmt: skip


def method_of(client: Any, name: str, prefix: str | None = None) -> Any:
    """Return a method by its dotted name; the test is skipped if this SDK lacks it."""
    resource, found = client, name.split(".")
    for part in found[:-1]:
        resource = getattr(resource, part, None)
    if prefix is not None:
        resource = getattr(resource, prefix, None)
    if not hasattr(resource, found[-1]):
        pytest.skip(f"openai {openai.__version__} has no {name}")
    return getattr(resource, found[-1])


@contextlib.contextmanager
def recorded(server: ScriptedServer, sink: MemorySink) -> Iterator[Any]:
    """Return a recorded sync client, and close it."""
    with client_of(server, "sync") as client:
        yield instrument(client, store=sink)


async def content_of(value: Any) -> Any:
    """Return what a caller sees in a result: the description, and the bytes of audio."""
    return describe(value), await settled(value.read()) if hasattr(value, "read") else None


async def call(client: Any, name: str, arguments: Json, form: str) -> Any:
    """Call a method in a form and return the description of everything the caller can look at."""
    if form == "plain":
        return await content_of(await settled(method_of(client, name)(**arguments)))
    if form == "raw":
        raw = await settled(method_of(client, name, "with_raw_response")(**arguments))
        return describe(raw), await content_of(raw.parse())
    async with entering(method_of(client, name, "with_streaming_response")(**arguments)) as response:
        if name == "audio.speech.create":
            return describe(response), b"".join(await items(response.iter_bytes())), describe(response)
        return describe(response), await content_of(await settled(response.parse())), describe(response)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", CALLS)
def test_a_call_returns_the_same_and_is_one_record(
    server: ScriptedServer, sink: MemorySink, case: str, form: str, mode: str
) -> None:
    name, arguments, api, usage, details, cost = CALLS[case]
    assert_recording_changes_nothing(server, sink, mode, lambda client: call(client, name, arguments, form))
    row = sink.row
    assert (row["api"], row["success"], row["error_type"]) == (api, True, None)
    assert (row["usage"], row["token_details"]) == (usage, details)
    if cost is None:
        assert row["total_cost"] is None
        assert row["unpriced_reason"]
    elif cost:
        assert row["total_cost"] == pytest.approx(cost)
    assert ((row["metadata"] or {}).get("usage") == "unknown") == (usage is None and details is None)
    assert row["request_id"] == (None if "as text" in case and form == "plain" else REQUEST_ID)
    assert SECRET not in str(row)
    assert TRANSCRIPT not in str(row)


STREAMS: dict[str, tuple[str, Json, Any, Any]] = {
    "images.generate": (
        "images.generate", {"model": "gpt-image-2", "prompt": SECRET, "partial_images": 1},
        IMAGE_USAGE, {**IMAGE, "images": 1},
    ),
    "images.edit": (
        "images.edit", {"model": "gpt-image-2", "prompt": SECRET, "image": PICTURE},
        IMAGE_USAGE, {**IMAGE, "images": 1},
    ),
    "audio.transcriptions": (
        "audio.transcriptions.create", {"model": "gpt-4o-transcribe", "file": FILE},
        AUDIO_TOKENS, {"audio_prompt_tokens": 100},
    ),
}  # fmt: skip


@pytest.mark.skipif(
    int(openai.__version__.partition(".")[0]) < 3, reason=f"openai {openai.__version__} does not know these arguments"
)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("is_raw", [False, True])
@pytest.mark.parametrize("case", STREAMS)
def test_a_stream_returns_the_same_and_is_one_record(
    server: ScriptedServer, sink: MemorySink, case: str, is_raw: bool, mode: str
) -> None:
    name, arguments, usage, details = STREAMS[case]

    async def act(client: Any) -> Any:
        method = method_of(client, name, "with_raw_response" if is_raw else None)
        if openai.__version__.startswith("1.66") and name.startswith("images"):
            pytest.skip("openai 1.66 has no streams of images")
        stream = await settled(method(**arguments, stream=True))
        stream = stream.parse() if is_raw else stream
        return describe(stream), [describe(item) for item in await items(stream)], describe(stream.response)

    assert_recording_changes_nothing(server, sink, mode, act)
    row = sink.row
    assert (row["success"], row["usage"], row["token_details"]) == (True, usage, details)
    assert row["total_cost"] is not None
    assert row["metadata"]["stream"] is True


@pytest.mark.parametrize("mode", MODES)
def test_the_model_that_draws_an_svg_is_charged_at_its_own_prices(
    server: ScriptedServer, sink: MemorySink, mode: str
) -> None:
    arguments = {"model": "gpt-image-2", "prompt": SECRET, "extra_body": {"output_format": "svg"}}

    async def act(client: Any) -> Any:
        return describe(await settled(client.images.generate(**arguments)))

    with_us, without = with_and_without(
        server, mode, lambda: client_of(server, mode), lambda client: instrument(client, store=sink), act
    )
    assert with_us == without
    row = sink.row
    used = {"calls": 1, "model": "gpt-6-luna", "prompt_tokens": 40, "completion_tokens": 300, "total_tokens": 340}
    assert row["tool_usage"] == {"svg_generation": used}
    charges = {charge["item"]: charge["quantity"] for charge in row["charges"]}
    assert charges["svg_generation_prompt"] == 40
    assert charges["svg_generation_completion"] == 300
    image = (20 * 5 + 30 * 8 + 400 * 30) / 1e6
    drawn = sum(charge["amount"] for charge in row["charges"] if charge["item"].startswith("svg_generation"))
    assert drawn > 0
    assert row["total_cost"] == pytest.approx(image + drawn)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["images.generate", "audio.speech.create", "decisions.create"])
@pytest.mark.parametrize("fault", ["400", "drop"])
def test_a_failed_call_raises_the_same_and_is_one_failure(
    server: ScriptedServer, sink: MemorySink, name: str, fault: str, mode: str
) -> None:
    arguments = next(arguments for method, arguments, *_ in CALLS.values() if method == name)

    async def act(client: Any) -> Any:
        return await settled(method_of(client, name)(**arguments, extra_headers={"x-fault": fault}))

    with_us, without = with_and_without(
        server, mode, lambda: client_of(server, mode), lambda client: instrument(client, store=sink), act
    )
    assert without[0] == "raised"
    assert with_us == without
    row = sink.row
    assert (row["success"], row["token_details"], row["total_cost"]) == (False, None, None)


@pytest.mark.parametrize("mode", MODES)
def test_moderations_are_free_and_recorded_on_request_only(server: ScriptedServer, sink: MemorySink, mode: str) -> None:
    async def act(client: Any) -> Any:
        return describe(await settled(client.moderations.create(input=SECRET, model="omni-moderation-latest")))

    def check(**options: Any) -> None:
        with_us, without = with_and_without(
            server, mode, lambda: client_of(server, mode), lambda client: instrument(client, store=sink, **options), act
        )
        assert with_us == without

    check()
    assert sink.rows == []
    server.rewind()
    check(free_calls=True)
    row = sink.row
    assert (row["api"], row["model"], row["total_cost"]) == ("moderations", "omni-moderation-2024-09-26", 0)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("form", FORMS)
def test_a_video_is_one_record_when_it_is_made(server: ScriptedServer, sink: MemorySink, form: str, mode: str) -> None:
    video_id = f"video_{server.salt}"

    async def act(client: Any) -> Any:
        arguments = {"prompt": f"{SECRET} {server.salt}", "model": "sora-2", "seconds": "8"}
        made = await call(client, "videos.create", arguments, "plain")
        retrieved = await call(client, "videos.retrieve", {"video_id": video_id}, form)
        again = await call(client, "videos.retrieve", {"video_id": video_id}, form)
        return made, retrieved, again

    assert_recording_changes_nothing(server, sink, mode, act)
    row = sink.row
    assert (row["api"], row["model"], row["response_id"]) == ("videos", "sora-2", video_id)
    assert row["token_details"] == {"seconds": 8}
    assert row["request_options"] == {"size": "720x1280"}
    assert (row["finish_reason"], row["total_cost"]) == ("completed", None)


def test_a_video_that_is_never_retrieved_is_one_record_without_seconds(
    server: ScriptedServer, sink: MemorySink
) -> None:
    with recorded(server, sink) as client:
        method_of(client, "videos.create")(prompt=SECRET, model="sora-2", seconds="4")
    assert flush(120)
    row = sink.row
    assert (row["metadata"]["usage"], row["token_details"], row["total_cost"]) == ("pending", None, None)


def test_a_video_that_failed_is_a_failure_without_seconds(server: ScriptedServer, sink: MemorySink) -> None:
    with recorded(server, sink) as client:
        method_of(client, "videos.retrieve")("video_failed")
    row = sink.row
    assert (row["success"], row["error_type"], row["token_details"]) == (False, "wrong", None)


def test_decisions_have_a_fingerprint_and_request_options(server: ScriptedServer, sink: MemorySink) -> None:
    options = {"mode": "explicit", "ttl": "30m"}
    with recorded(server, sink) as client:
        create = method_of(client, "decisions.create")
        create(model="gpt-6-luna", input=SECRET, questions=[], extra_body={"prompt_cache_options": options})
    row = sink.row
    assert row["fingerprint"]
    assert row["request_options"] == {"cache_mode": "explicit", "cache_ttl": "30m"}
    assert (row["prompt_tokens"], row["cached_tokens"], row["cache_write_tokens"]) == (2300, 2048, 128)


def test_speech_that_the_caller_does_not_read_to_its_end_is_recorded(server: ScriptedServer, sink: MemorySink) -> None:
    arguments = {"model": "tts-1", "voice": "alloy", "input": SECRET}
    with (
        recorded(server, sink) as client,
        client.audio.speech.with_streaming_response.create(**arguments) as response,
    ):
        assert next(response.iter_bytes(4)) == BINARY[:4]
    row = sink.row
    assert (row["success"], row["token_details"]) == (True, SPEECH)
    assert row["metadata"]["ended"] == "closed_early"
