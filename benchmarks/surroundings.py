"""Measure the overhead that tags, the call site and trace ids add to a call, in microseconds.

The parts of a call that depend on them: opening the scope, reading the run context, encoding the event. They run in a
warm loop, in batches of 200 that take turns with batches of the same without tags; the result is the median of BATCHES
differences. The frames of a framework are skipped, so the call site takes longer below many of them.
``CLOCK=cpu`` measures the CPU time of the calling thread, for a busy machine.
"""

from __future__ import annotations

import itertools
import os
import statistics
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from opentelemetry.sdk.trace import TracerProvider
from sdk_calls import CLOCK, microseconds_since

from rlm_cachetrack import query_run, tags
from rlm_cachetrack.capture import context, surroundings
from rlm_cachetrack.journal import encode

BATCHES, SIZE = int(os.environ.get("BATCHES", "400")), 200
FRAMES = 20
CLIENT_TAGS = {"app": "shop"}
EVENT = (
    *(1 << 60, "chat.completions", "openai", "gpt-5-2025-08-07", "gpt-5", 1_790_000_000_000_000_000, 812_345_678),
    *(None, 3, 120, "req_1", "chatcmpl-1", "default", "stop", 0, None, None, None),
)
USAGE = {
    "prompt_tokens": 2000,
    "completion_tokens": 100,
    "total_tokens": 2100,
    "prompt_tokens_details": {"cached_tokens": 1920},
}


def batch(action: Callable[[], Any]) -> float:
    """Return the duration of an action in microseconds: the mean of SIZE."""
    begun = CLOCK()
    for _ in range(SIZE):
        action()
    return microseconds_since(begun) / SIZE


def added(action: Callable[[], Any], to: Callable[[], Any], around: AbstractContextManager[Any] | None = None) -> float:
    """Return the median of what an action takes longer than another one, in microseconds; their batches take turns."""
    differences = []
    for _ in range(BATCHES):
        without = batch(to)
        with around or nullcontext():
            differences.append(batch(action) - without)
    return statistics.median(differences)


def nothing() -> None:
    """Return at once."""


def event() -> None:
    """Do what depends on tags in a call: read its run context, and encode its event."""
    run_context, scope_tags = context.current_encoded(CLIENT_TAGS)
    encode(run_context, EVENT, USAGE, None, scope_tags)


def of_tags() -> list[tuple[str, float]]:
    """Return what two tags add to a call of a client with one tag, in the ways to set them."""
    numbers = itertools.count()

    def with_text() -> None:
        str(next(numbers))
        event()

    def in_a_new_scope() -> None:
        with tags(user="u-17", feature="search"):
            event()

    def with_new_values() -> None:
        with tags(user=str(next(numbers)), feature="search"):
            event()

    def in_nested_scopes() -> None:
        with tags(user="u-17"), tags(feature="search"):
            event()

    with query_run("benchmark"):
        return [
            ("in a scope around all calls", added(event, event, around=tags(user="u-17", feature="search"))),
            ("in a new scope", added(in_a_new_scope, event)),
            ("in a new scope, with a new value", added(with_new_values, with_text)),
            ("in two nested new scopes", added(in_nested_scopes, event)),
        ]


def below_frames_of_a_framework(act: Callable[[], Any]) -> float:
    """Return what an action takes that FRAMES functions of a framework call, without their own time."""
    framework: dict[str, Any] = {"__name__": "langchain_openai.chat_models"}
    exec("def nested(depth, act): return nested(depth - 1, act) if depth else act()", framework)
    nested, depth = framework["nested"], FRAMES - 1
    return added(lambda: nested(depth, act), lambda: nested(depth, nothing))


def main() -> None:
    """Measure, and print a table."""
    os.environ["RLM_CACHETRACK_DISABLED"] = "1"  # the run writes no events
    with TracerProvider().get_tracer("benchmark").start_as_current_span("step"):
        span = added(surroundings.current_span, nothing)
    rows = [
        *((f"tags: two, {name}", micros, 2) for name, micros in of_tags()),
        ("call site: the function that calls the SDK", added(surroundings.call_site, nothing), 5),
        (
            f"call site: below {FRAMES} frames of a framework",
            below_frames_of_a_framework(surroundings.call_site),
            5,
        ),
        ("trace ids: in a span", span, 2),
        ("trace ids: OpenTelemetry imported, no span", added(surroundings.current_span, nothing), 2),
    ]
    print("| added to a call, µs | p50 | target |")
    print("|---|--:|--:|")
    for name, micros, target in rows:
        print(f"| {name} | {micros:+.2f} | ≤ {target} |")


if __name__ == "__main__":
    main()
