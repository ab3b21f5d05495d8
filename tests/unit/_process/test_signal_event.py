"""The signal-safe event can be set anywhere, even by a handler that interrupts ``set``."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from rlm_cachetrack._process.signal_event import SignalSafeEvent


def test_the_event_is_set_until_it_is_cleared() -> None:
    event = SignalSafeEvent()
    assert not event.is_set()
    event.set()
    event.set()
    assert (event.is_set(), event.wait(0), event.wait(5)) == (True, True, True)
    event.clear()
    assert (event.is_set(), event.wait(0.01)) == (False, False)


def test_set_wakes_the_thread_that_waits() -> None:
    event = SignalSafeEvent()
    threading.Timer(0.05, event.set).start()
    began = time.monotonic()
    assert event.wait(120)
    assert time.monotonic() - began < 60


def interrupted_everywhere(work: Callable[[], None], handler: Callable[[], None]) -> None:
    """Run ``work``, and run ``handler`` at each call and return, where the interpreter checks for signals."""
    inside = []

    def look(frame: FrameType, what: str, argument: Any) -> None:
        if not inside:
            inside.append(True)
            handler()
            inside.clear()

    sys.setprofile(look)
    try:
        work()
    finally:
        sys.setprofile(None)


def test_a_handler_that_interrupts_set_does_not_deadlock() -> None:
    event = SignalSafeEvent()

    def work() -> None:
        event.set()
        event.clear()

    thread = threading.Thread(target=interrupted_everywhere, args=(work, event.set), daemon=True)
    thread.start()
    thread.join(120)
    assert not thread.is_alive()


def test_no_set_is_lost_during_a_clear() -> None:
    event, done, done_before = SignalSafeEvent(), 0, 0

    def set_often() -> None:
        nonlocal done
        for _ in range(20_000):
            done += 1
            event.set()

    setting = threading.Thread(target=set_often)
    setting.start()
    while done_before < 20_000:
        event.clear()
        if done_before == done:
            assert event.wait(120) or done_before != done, "a set was lost"
        done_before = done
    setting.join()
