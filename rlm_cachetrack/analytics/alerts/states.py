"""The states of alert rules in the database: each change is notified once, by one of several watchers."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypedDict, cast

from .evaluation import Reading
from .rules import JournalBacklog, Rule

if TYPE_CHECKING:
    from rlm_cachetrack.store import PostgresStore, Session


_FAILING_S = 5.0


class AlertChange(TypedDict):
    """A change of a rule's state: it began to fire, or it recovered."""

    name: str
    firing: bool
    value: float | None
    reason: str
    changed_at: datetime


class AlertState(AlertChange):
    """The state of a rule, with its latest value and reason; ``changed_at`` is when it began or stopped firing.

    ``notified`` is False while a notification is still to be sent. ``is_current`` is False if no watcher evaluates the
    rule any more, for example because it was removed from the file; the rule then does not fire.
    """

    notified: bool
    is_current: bool


def alert_states(store: PostgresStore) -> list[AlertState]:
    """Return the states of the rules that were evaluated in the last week, the firing ones first.

    Blocks for one query.
    """
    rows = store.query("alert_states", names=None)
    return cast("list[AlertState]", [{**row, "firing": row["firing"] and row["is_current"]} for row in rows])


def state_name(rule: Rule) -> str:
    """Return the name of a rule's state. A rule about journals has one per machine, because each has its own."""
    return f"{rule.name} on {socket.gethostname()}" if isinstance(rule, JournalBacklog) else rule.name


def update_states(
    store: PostgresStore,
    readings: Mapping[str, Reading],
    notify: Callable[[AlertChange], None],
    valid_for: timedelta = timedelta(hours=25),
) -> list[AlertChange]:
    """Store the changes, and send each notification that no watcher has sent yet. Blocks.

    If ``notify`` raises, the other changes are still sent, and the next update retries the failed one. If this takes
    more than five seconds, the changes that were not sent yet also wait for the next update.

    Args:
        store: The store of the states.
        readings: The values by the names of their states; see :func:`state_name`.
        notify: Called for each change.
        valid_for: How long the states count if no update follows; by default they last until tomorrow's update.

    Returns:
        The states of the rules.
    """
    names = list(readings)
    known = {row["name"]: row["firing"] for row in store.query("alert_states", names=names)}
    with store.session() as session:
        for name, reading in readings.items():
            if reading.value is None:
                continue
            was = known.get(name, False)
            firing = reading.value > (reading.below if was else reading.above)
            if name not in known or firing != was:
                session.run("alert_change", name=name, firing=firing, value=reading.value, reason=reading.reason)
        session.run(
            "alert_evaluated",
            names=names,
            new_values=[None if reading.value is None else float(reading.value) for reading in readings.values()],
            reasons=[reading.reason for reading in readings.values()],
            valid_for=valid_for,
        )
        states = store.query("alert_states", names=names)
        failures: list[Exception] = []
        began = time.monotonic()
        for row in states:
            # A service that does not respond would delay every change, so the others wait for the next update.
            if failures and time.monotonic() - began > _FAILING_S:
                break
            if (exc := _notify_once(session, row, notify)) is not None:
                failures.append(exc)
    if failures:
        raise failures[0]
    return [_change(row) for row in states]


def _notify_once(session: Session, row: Mapping[str, Any], notify: Callable[[AlertChange], None]) -> Exception | None:
    """Send the notification of a change unless a watcher has sent it. Returns the error of ``notify``, if it failed."""
    if row["notified"] or not session.run("alert_claim", name=row["name"], notified=True):
        return None
    try:
        notify(_change(row))
    except BaseException as exc:  # including KeyboardInterrupt: another watcher may send it
        session.run("alert_claim", name=row["name"], notified=False)
        if not isinstance(exc, Exception):
            raise
        return exc
    return None


def _change(row: Mapping[str, object]) -> AlertChange:
    return cast("AlertChange", {name: row[name] for name in AlertChange.__annotations__})
