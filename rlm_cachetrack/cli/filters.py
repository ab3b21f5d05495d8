"""The filters of all reading commands: ``--since``, ``--until``, ``--model``, ``--provider``, ``--query``, ``--tag``.

A command declares them with :func:`filtered`, and passes the parsed values to a method of the client. Commands that sum
calls select calls; commands that list, explain or compare runs select the runs that have such calls.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from rlm_cachetrack.errors import ConfigError
from rlm_cachetrack.formatting import moment

from .arguments import check_query_id, option, parse_moment

if TYPE_CHECKING:
    from rlm_cachetrack.analytics import CallFilters

_METAVARS = {
    "since": "WHEN",
    "until": "WHEN",
    "model": "NAME",
    "provider": "NAME",
    "query": "QUERY_ID",
    "tag": "NAME=VALUE",
}
_HELP = {
    "calls": {
        "since": "Only calls since this time: 2026-01-31 (UTC), 7d, 24h.",
        "until": "Only calls before this time.",
        "model": "Only calls of this model.",
        "provider": "Only calls of this provider.",
        "query": "Only calls of the query with this whole id.",
        "tag": "Only calls with this tag; can be repeated.",
    },
    "runs": {
        "since": "Only runs that began since this time: 2026-01-31 (UTC), 7d, 24h.",
        "until": "Only runs that began before this time.",
        "model": "Only runs with a call of this model.",
        "provider": "Only runs with a call of this provider.",
        "query": "Only runs of the query with this whole id.",
        "tag": "Only runs with this tag, or with a call that has it; can be repeated.",
    },
}


def filtered(
    selects: Literal["calls", "runs"] = "calls", /, **refused: str
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the filters as options, in place of its parameter ``filters``.

    Args:
        selects: What the filters select, for the help.
        refused: The filters that the command cannot apply, with the reason, which is shown if one is given.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        command.__annotations__.pop("filters")  # typer does not know this type
        options = [_parameter(name, selects, refused.get(name)) for name in _METAVARS]
        signature = inspect.signature(command, eval_str=True)
        own = [each.replace(kind=each.KEYWORD_ONLY) for each in signature.parameters.values() if each.name != "filters"]
        before = next(index for index, each in enumerate(own) if each.name in ("as_json", "db_url"))
        parameters = [*own[:before], *options, *own[before:]]

        @functools.wraps(command)
        def run(**arguments: Any) -> None:
            given = {name: arguments.pop(name) for name in _METAVARS}
            command(**arguments, filters=_parsed(**given))

        run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return run

    return decorate


def _parameter(name: str, selects: str, refused: str | None) -> inspect.Parameter:
    def callback(value: Any) -> Any:
        if refused is not None and value:
            raise typer.BadParameter(refused)
        return value if value is None or name != "query" else check_query_id(value)

    declared = option(
        f"--{name}",
        metavar=_METAVARS[name],
        help=_HELP[selects][name],
        callback=callback,
        hidden=refused is not None,
    )
    value_type: Any = list[str] | None if name == "tag" else str | None
    annotated = Annotated[value_type, declared]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotated)


def _parsed(
    since: str | None,
    until: str | None,
    model: str | None,
    provider: str | None,
    query: str | None,
    tag: list[str] | None,
) -> CallFilters:
    first, last = parse_moment(since, "--since"), parse_moment(until, "--until")
    if first is not None and last is not None and first >= last:
        raise ConfigError(f"--since, {moment(first)}, is not before --until, {moment(last)}")
    given: CallFilters = {
        "since": first,
        "until": last,
        "model": model,
        "provider": provider,
        "query_id": query,
        "tags": _parse_tags(tag),
    }
    return {name: value for name, value in given.items() if value is not None}  # type: ignore[return-value]


def _parse_tags(given: list[str] | None) -> dict[str, str] | None:
    """Parse the values of ``--tag``; None without any.

    Raises:
        ConfigError: A value is not of the form NAME=VALUE.
    """
    pairs = [text.partition("=") for text in given or ()]
    for name, sign, value in pairs:
        if not name or not sign:
            raise ConfigError(f"--tag {name}{sign}{value}: expected NAME=VALUE, such as user=u-17")
    return {name: value for name, _, value in pairs} or None
