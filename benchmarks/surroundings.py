"""What tags, the call site and trace ids add to a call on the calling thread, in microseconds.

The parts of a call that read them, without the SDK and the journal, which are the same with and without them: the
median of BATCHES batches of 200 calls in a warm loop, less the time of an empty function or of a call without tags.
The frames of a framework are skipped, so the call site takes longer below many of them.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from typing import Any

from opentelemetry.sdk.trace import TracerProvider

from rlm_cachetrack import query_run, tags
from rlm_cachetrack.capture import context, surroundings

BATCHES, SIZE = int(os.environ.get("BATCHES", "400")), 200
FRAMES = 20


def p50(act: Callable[[], Any]) -> float:
    """Return the median duration of an action in microseconds."""
    times = []
    for _ in range(BATCHES):
        begun = time.perf_counter_ns()
        for _ in range(SIZE):
            act()
        times.append((time.perf_counter_ns() - begun) / SIZE / 1e3)
    return statistics.median(times)


def nothing() -> None:
    """Return at once."""


def of_tags() -> tuple[float, float]:
    """Return what tags add to a call in the scope of the call before, and in a scope of its own."""
    client = {"app": "shop"}
    with query_run("benchmark"):
        without = p50(lambda: context.current_json(None))
        with tags(user="u-17", feature="search"):
            same = p50(lambda: context.current_json(client))

        def in_its_own_scope() -> None:
            with tags(user="u-17", feature="search"):
                context.current_json(client)

        return same - without, p50(in_its_own_scope) - without


def below_frames_of_a_framework(act: Callable[[], Any]) -> float:
    """Return the median duration of an action that FRAMES functions of a framework call, without their own time."""
    framework: dict[str, Any] = {"__name__": "langchain_openai.chat_models"}
    exec("def nested(depth, act): return nested(depth - 1, act) if depth else act()", framework)
    nested, depth = framework["nested"], FRAMES - 1
    return p50(lambda: nested(depth, act)) - p50(lambda: nested(depth, nothing))


def main() -> None:
    """Measure, and print a table."""
    os.environ["RLM_CACHETRACK_DISABLED"] = "1"  # the run writes no events
    empty = p50(nothing)
    same, own = of_tags()
    with TracerProvider().get_tracer("benchmark").start_as_current_span("step"):
        span = p50(surroundings.current_span)
    rows = [
        ("tags: three, in the scope of the call before", same, 2),
        ("tags: three, in a scope of its own", own, 2),
        ("call site: the function that calls the SDK", p50(surroundings.call_site) - empty, 5),
        (
            f"call site: below {FRAMES} frames of a framework",
            below_frames_of_a_framework(surroundings.call_site),
            5,
        ),
        ("trace ids: in a span", span - empty, 2),
        ("trace ids: OpenTelemetry imported, no span", p50(surroundings.current_span) - empty, 2),
    ]
    print("| added to a call, µs | p50 | target |")
    print("|---|--:|--:|")
    for name, micros, target in rows:
        print(f"| {name} | {micros:+.2f} | ≤ {target} |")


if __name__ == "__main__":
    main()
