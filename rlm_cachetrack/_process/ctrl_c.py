"""Ctrl-C, for commands that run until it is pressed.

Python raises KeyboardInterrupt in whatever code the main thread is running, where it can get lost. The interpreter
prints and drops exceptions of finalizers and callbacks, such as those of the import system, and cleanup code can raise
another error instead. Therefore the handler of this module also stores that Ctrl-C was pressed, and a loop in
:class:`CtrlC` checks that between its steps.

Source: https://docs.python.org/3/library/signal.html#note-on-signal-handlers-and-exceptions, read 2026-12-02.
"""

from __future__ import annotations

import signal
import time
from types import FrameType, TracebackType

_GRACE_S = 2.0
"""How long the current step of a loop may take after Ctrl-C before it is interrupted."""
_AGAIN_S = 0.5
"""The delay between a lost KeyboardInterrupt and the next one, in seconds."""


class _State:
    """The state that the signal handlers share with the loop. Only the main thread uses it."""

    is_pressed = False
    loop: CtrlC | None = None


def handle_ctrl_c() -> None:
    """Install the handler, unless the process ignores SIGINT or has another handler. Main thread only."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _pressed)


def is_ctrl_c_pressed() -> bool:
    """Return True if Ctrl-C was pressed since :func:`handle_ctrl_c`."""
    return _State.is_pressed


class CtrlC:
    """Ends a loop on Ctrl-C, and suppresses the KeyboardInterrupt.

    The first Ctrl-C ends :meth:`sleep` at once. It interrupts any other step only after two seconds, so that most steps
    are completed; the second Ctrl-C interrupts a step at once.
    """

    def __init__(self) -> None:
        self.is_sleeping = False

    def __enter__(self) -> CtrlC:
        # Windows has no timer of this kind; there the first Ctrl-C interrupts any step.
        if hasattr(signal, "setitimer") and signal.getsignal(signal.SIGINT) is _pressed:
            signal.signal(signal.SIGALRM, _step_takes_long)
            _State.loop = self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if _State.loop is self:
            _State.loop = None
            signal.setitimer(signal.ITIMER_REAL, 0)
        return kind is not None and issubclass(kind, KeyboardInterrupt)

    @property
    def is_pressed(self) -> bool:
        """Return True after Ctrl-C, also if it was pressed before the loop began."""
        return _State.is_pressed

    def sleep(self, seconds: float) -> None:
        """Wait; Ctrl-C ends the wait with a KeyboardInterrupt."""
        self.is_sleeping = True
        try:
            if not _State.is_pressed:
                time.sleep(seconds)
        finally:
            self.is_sleeping = False


def _pressed(number: int, frame: FrameType | None) -> None:
    is_first, _State.is_pressed = not _State.is_pressed, True
    loop = _State.loop
    if loop is not None:
        signal.setitimer(signal.ITIMER_REAL, _GRACE_S if is_first else _AGAIN_S, _AGAIN_S)
    if loop is None or loop.is_sleeping or not is_first:
        raise KeyboardInterrupt


def _step_takes_long(number: int, frame: FrameType | None) -> None:
    if _State.loop is not None:
        raise KeyboardInterrupt
