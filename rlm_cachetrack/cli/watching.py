"""``watch``: evaluate alert rules, and notify of each change once."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rlm_cachetrack._process import CtrlC
from rlm_cachetrack.errors import ConfigError, NotStoredError, StoreError
from rlm_cachetrack.formatting import clean

from .arguments import AsJson, DbUrl, argument, open_client, option
from .output import print_data, stderr, stdout

if TYPE_CHECKING:
    from collections.abc import Callable

    from rlm_cachetrack.analytics.alerts import AlertChange, AlertFile, Reading
    from rlm_cachetrack.analytics.explain import BustSearch
    from rlm_cachetrack.client import TimescaleDBClient

_COMMAND_S = 30
_ONCE_A_DAY = timedelta(hours=25)
_LEAST_VALID_S = 300.0


def watch(
    rules: Annotated[Path, argument(metavar="RULES.yaml", help="The file of alert rules.")],
    once: Annotated[bool, option("--once", help="Evaluate once; exit code 1 if a rule fires.")] = False,
    interval: Annotated[
        float, typer.Option("--interval", metavar="SECONDS", min=1, help="Time between evaluations.")
    ] = 15.0,
    as_json: AsJson = False,
    db_url: DbUrl = None,
) -> None:
    """Evaluate alert rules on spending, hit rate, failures and more; notify of each change once."""
    from rlm_cachetrack.analytics.alerts import read_alerts

    file = read_alerts(rules)
    notify = _notifier(file)
    with open_client(db_url) as client:
        if once:
            found, missing = _evaluate(client, file, notify, {}, _ONCE_A_DAY, names_unknown=True)
            if not print_data(found, as_json):
                for change in found:
                    stdout().print(_line(change), soft_wrap=True)
            if missing or any(change["firing"] for change in found):
                raise typer.Exit(1)
            return
        client.runtime.restarts_server = False
        journals = _Journals(client, file, notify)
        searches: dict[str, BustSearch] = {}
        valid_for = timedelta(seconds=max(4 * interval, _LEAST_VALID_S))
        with CtrlC() as ctrl_c:
            while not ctrl_c.is_pressed:
                try:
                    journals.settle(_evaluate(client, file, journals.notify, searches, valid_for)[0])
                except StoreError as exc:  # the database may come back
                    stderr().print(clean(str(exc)), style="red", soft_wrap=True)
                    journals.check()
                ctrl_c.sleep(interval)


class _Journals:
    """Notifies of full journals while the database, which has the states of rules, cannot be reached."""

    def __init__(self, client: TimescaleDBClient, file: AlertFile, notify: Callable[[AlertChange], None]) -> None:
        from rlm_cachetrack.analytics.alerts import JournalBacklog

        self._client = client
        self._rules = [rule for rule in file.rules if isinstance(rule, JournalBacklog)]
        self._notify = notify
        self._firing: set[str] = set()
        self._unstored: set[str] = set()  # notifications that were sent while their states could not be stored

    def check(self) -> None:
        """Notify of each journal that has become too long, once."""
        from rlm_cachetrack.analytics.alerts import backlog_reading, state_name

        for rule in self._rules:
            name, reading = state_name(rule), backlog_reading(rule, _backlog(self._client))
            is_full = reading.value is not None and reading.value > reading.above
            if is_full and name not in self._firing and self._send(name, True, reading.value, reading.reason):
                self._firing.add(name)
                self._unstored.add(name)

    def notify(self, change: AlertChange) -> None:
        """Send a notification of a stored change, unless one was sent before the change could be stored."""
        if not (change["firing"] and change["name"] in self._unstored):
            self._notify(change)
        self._unstored.discard(change["name"])

    def settle(self, states: list[AlertChange]) -> None:
        """Notify of the recovery of journals that were emptied before their state could be stored."""
        for state in states:
            if state["name"] in self._unstored and not state["firing"]:
                self._send(state["name"], False, state["value"], state["reason"])
        self._unstored.clear()
        self._firing = {state["name"] for state in states if state["firing"]}

    def _send(self, name: str, firing: bool, value: float | None, reason: str) -> bool:
        change: AlertChange = {
            "name": name, "firing": firing, "value": value, "reason": reason, "changed_at": datetime.now(UTC),
        }  # fmt: skip
        stderr().print(_line(change), soft_wrap=True)
        try:
            self._notify(change)
        except StoreError as exc:
            stderr().print(clean(str(exc)), style="red", soft_wrap=True)
            return False
        return True


def _backlog(client: TimescaleDBClient) -> int:
    from rlm_cachetrack.journal import journal_files

    return sum(file.events for file in journal_files(client.runtime.journal.directory))


def _evaluate(
    client: TimescaleDBClient,
    file: AlertFile,
    notify: Callable[[AlertChange], None],
    searches: dict[str, BustSearch],
    valid_for: timedelta,
    names_unknown: bool = False,
) -> tuple[list[AlertChange], int]:
    """Evaluate all rules, and print those whose value is not known if ``names_unknown``.

    Returns:
        The states of the rules, and the number of rules about a budget that does not exist.
    """
    from rlm_cachetrack.analytics.alerts import evaluate, state_name, update_states

    store = client.runtime.store()
    now = datetime.now(UTC)
    readings: dict[str, Reading] = {}
    for rule in file.rules:
        try:
            readings[state_name(rule)] = evaluate(store, rule, now, lambda: _backlog(client), searches)
        except NotStoredError as exc:  # the other rules still count
            stderr().print(clean(f"{rule.name}: {exc}"), style="red", soft_wrap=True)

    for name, reading in readings.items():
        if names_unknown and reading.value is None:
            stderr().print(f"unknown {clean(name)}: {clean(reading.reason)}", soft_wrap=True)

    def reported(change: AlertChange) -> None:
        stderr().print(_line(change), soft_wrap=True)
        notify(change)

    return update_states(store, readings, reported, valid_for), len(file.rules) - len(readings)


def _line(change: AlertChange) -> str:
    return f"{'FIRING ' if change['firing'] else 'ok     '} {clean(change['name'])}: {clean(change['reason'])}"


def _notifier(file: AlertFile) -> Callable[[AlertChange], None]:
    """Return the function that notifies.

    Raises:
        ConfigError: apprise is needed and not installed, or it does not know an address.
    """
    service = None
    if file.notify:
        try:
            import apprise
        except ImportError as exc:
            raise ConfigError("notify needs apprise: pip install 'rlm_cachetrack[alerts]'") from exc
        service = apprise.Apprise()
        for number, address in enumerate(file.notify, 1):
            if not service.add(address):
                raise ConfigError(f"notify: apprise does not understand address {number}")  # it may hold a password

    def notify(change: AlertChange) -> None:
        title = f"{'Firing' if change['firing'] else 'Recovered'}: {change['name']}"
        if service is not None and not service.notify(title=title, body=change["reason"]):
            raise StoreError(f"the notification of {change['name']!r} was not accepted; it will be retried")
        if file.command is not None:
            text = json.dumps({**change, "changed_at": change["changed_at"].isoformat()})
            try:
                subprocess.run(
                    file.command,
                    input=text,
                    encoding="utf-8",
                    timeout=_COMMAND_S,
                    check=True,
                    stdout=subprocess.DEVNULL,
                )
            except (OSError, subprocess.SubprocessError) as exc:
                raise StoreError(
                    f"the command for {change['name']!r} failed ({type(exc).__name__}); it will be retried"
                ) from exc

    return notify
