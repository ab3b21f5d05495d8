"""Every method of the installed SDK's resources, and what the library does with its calls.

The methods are found by walking the resources of a client. ``sdk_methods.txt`` lists the methods that are known to call
no billed model; the tables here name all others. A method of a newer SDK that is in neither is reported by a test.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from openai import OpenAI
from openai._resource import SyncAPIResource

FREE_FILE = Path(__file__).with_name("sdk_methods.txt")

RECORDED = {
    "audio.speech.create": "characters; tokens if `stream_format` is `sse`",
    "audio.transcriptions.create": "tokens or seconds, as the server bills",
    "audio.translations.create": "seconds, if `response_format` is `verbose_json`",
    "batches.cancel": "as `batches.retrieve`",
    "batches.retrieve": (
        "the batch's total, once, when it has ended; an import of its output file replaces the total by its calls"
    ),
    "beta.agents.sessions.create": "with `stream=True`: each turn that ends",
    "beta.agents.sessions.events.stream": "each turn that ends, once",
    "beta.agents.sessions.retrieve": "the model of the session's turns",
    "beta.agents.sessions.stream": "as `beta.agents.sessions.events.stream`",
    "beta.agents.sessions.subagents.turns.list": "each turn that has ended, once",
    "beta.agents.sessions.subagents.turns.retrieve": "the turn, once, when it has ended",
    "beta.agents.sessions.turns.list": "each turn that has ended, once",
    "beta.agents.sessions.turns.retrieve": "the turn, once, when it has ended",
    "beta.chat.completions.create": "",
    "beta.chat.completions.parse": "",
    "beta.chat.completions.stream": "",
    "beta.realtime.connect": "each response, and each transcription of the input",
    "beta.responses.cancel": "the background response, once",
    "beta.responses.compact": "",
    "beta.responses.connect": "each response",
    "beta.responses.create": "",
    "beta.responses.retrieve": "the background response, once, when it has ended",
    "chat.completions.create": "",
    "chat.completions.parse": "",
    "chat.completions.stream": "",
    "completions.create": "",
    "decisions.create": "",
    "embeddings.create": "",
    "evals.runs.cancel": "as `evals.runs.retrieve`",
    "evals.runs.retrieve": "the run's total per model, recorded once after the run has ended",
    "fine_tuning.alpha.graders.run": "each model that the grader asked",
    "images.create_variation": "",
    "images.edit": "",
    "images.generate": "",
    "live.connect": "the session with its seconds, and each response and decision that it delegates",
    "live.forks.connect": "as `live.connect`",
    "live.sideband.connect": "as `live.connect`, unless another connection of the process records the session",
    "realtime.connect": "each response, and each transcription of the input",
    "responses.cancel": "the background response, once",
    "responses.compact": "",
    "responses.connect": "each response",
    "responses.create": "",
    "responses.parse": "",
    "responses.retrieve": "the background response, once, when it has ended",
    "responses.stream": "",
    "videos.create": "the video, once, when a retrieval shows that it is made",
    "videos.create_and_poll": "as `videos.create`",
    "videos.edit": "as `videos.create`",
    "videos.extend": "as `videos.create`",
    "videos.poll": "as `videos.retrieve`",
    "videos.remix": "as `videos.create`",
    "videos.retrieve": "the video, once, when it is made",
}
"""The methods whose calls are recorded, and what a record is if it is not the call itself."""

ON_REQUEST = {"moderations.create": "free of charge; recorded with `instrument(client, free_calls=True)`"}

_ASSISTANTS = "the SDK marks the Assistants API as deprecated in favor of the Responses API"
_LATER = "the server works later; its turns are recorded when they are retrieved or streamed"
_NO_USAGE = "its response contains no usage"
_STORAGE = "billed by stored bytes and time, which no response reports"
_WEBRTC = "the session's responses go to the browser, not through this process"
NOT_RECORDED = {
    "audio.voice_consents.create": _NO_USAGE,
    "audio.voices.create": _NO_USAGE,
    "batches.create": "billed when the batch has ended: `batches.retrieve` records it",
    "batches.list": "the list contains batches of other programs; `batches.retrieve` records a batch",
    "beta.agents.automations.create": _LATER,
    "beta.agents.automations.invocations.create": _LATER,
    "beta.agents.environments.create": "billed by the time that the environment runs, which no response reports",
    "beta.agents.sessions.events.create": _LATER,
    "beta.assistants.create": _ASSISTANTS,
    "beta.chatkit.sessions.create": _WEBRTC,
    "beta.realtime.sessions.create": _WEBRTC,
    "beta.realtime.transcription_sessions.create": _WEBRTC,
    "beta.threads.create_and_run": _ASSISTANTS,
    "beta.threads.create_and_run_poll": _ASSISTANTS,
    "beta.threads.create_and_run_stream": _ASSISTANTS,
    "beta.threads.runs.create": _ASSISTANTS,
    "beta.threads.runs.create_and_poll": _ASSISTANTS,
    "beta.threads.runs.create_and_stream": _ASSISTANTS,
    "beta.threads.runs.poll": _ASSISTANTS,
    "beta.threads.runs.retrieve": _ASSISTANTS,
    "beta.threads.runs.stream": _ASSISTANTS,
    "beta.threads.runs.submit_tool_outputs": _ASSISTANTS,
    "beta.threads.runs.submit_tool_outputs_and_poll": _ASSISTANTS,
    "beta.threads.runs.submit_tool_outputs_stream": _ASSISTANTS,
    "containers.create": "billed by the time that the container runs, which no response reports",
    "content_provenance_checks.create": _NO_USAGE,
    "evals.runs.create": "billed when the run has ended: `evals.runs.retrieve` records it",
    "files.create": _STORAGE,
    "fine_tuning.jobs.create": "training is billed by trained tokens or by time, and has no cached input",
    "live.create": _WEBRTC,
    "live.sessions.accept": _WEBRTC,
    "live.sessions.fork": _WEBRTC,
    "realtime.calls.accept": _WEBRTC,
    "realtime.calls.create": _WEBRTC,
    "realtime.client_secrets.create": _WEBRTC,
    "realtime.translations.client_secrets.create": _WEBRTC,
    "realtime.translations.connect": "its events report no usage",
    "uploads.complete": _STORAGE,
    "uploads.upload_file_chunked": _STORAGE,
    "vector_stores.create": _STORAGE,
    "vector_stores.file_batches.create": _STORAGE,
    "vector_stores.file_batches.create_and_poll": _STORAGE,
    "vector_stores.file_batches.upload_and_poll": _STORAGE,
    "vector_stores.files.create": _STORAGE,
    "vector_stores.files.create_and_poll": _STORAGE,
    "vector_stores.files.upload": _STORAGE,
    "vector_stores.files.upload_and_poll": _STORAGE,
    "vector_stores.search": "the response of a search in the store has no usage",
    "videos.create_character": _NO_USAGE,
}
"""The methods that can cost money and whose calls are not recorded, with the reason."""


def methods() -> list[str]:
    """Return the public methods of all resources of the installed SDK, as a user writes them."""
    with OpenAI(api_key="x", admin_api_key="x") if _has_admin_key() else OpenAI(api_key="x") as client:
        return sorted(_walk(client, ""))


def _has_admin_key() -> bool:
    return "admin_api_key" in inspect.signature(OpenAI).parameters


def _walk(owner: Any, prefix: str) -> list[str]:
    found: list[str] = []
    for name in dir(type(owner)):
        if name.startswith("_") or name.startswith("with_"):
            continue
        attribute = inspect.getattr_static(type(owner), name)
        if inspect.isfunction(attribute):
            if prefix:  # the methods of the client itself make requests of any kind
                found.append(prefix + name)
            continue
        try:
            value = getattr(owner, name)
        except Exception:
            continue
        if isinstance(value, SyncAPIResource):
            found += _walk(value, f"{prefix}{name}.")
    return found


def free() -> list[str]:
    """Return the known methods that call no billed model."""
    return FREE_FILE.read_text(encoding="utf-8").split()


def lines() -> str:
    """Return the section of the coverage page."""
    out = [
        "## Methods of the SDK",
        "",
        "Every method of openai's resources that can cost money; methods of `with_raw_response` and",
        "`with_streaming_response`, and of the async client, are recorded in the same way.",
        "",
        "| method | recorded | what a record is, or why there is none |",
        "|---|---|---|",
    ]
    out += [f"| `{name}` | yes | {note} |" for name, note in sorted(RECORDED.items())]
    out += [f"| `{name}` | on request | {note} |" for name, note in sorted(ON_REQUEST.items())]
    out += [f"| `{name}` | no | {note} |" for name, note in sorted(NOT_RECORDED.items())]
    by_resource: dict[str, list[str]] = {}
    for name in free():
        resource, _, method = name.rpartition(".")
        by_resource.setdefault(resource, []).append(method)
    out += ["", "Free: the other methods call no billed model.", "", "| resource | methods |", "|---|---|"]
    out += [f"| `{resource}` | {', '.join(names)} |" for resource, names in sorted(by_resource.items())]
    return "\n".join([*out, ""])
