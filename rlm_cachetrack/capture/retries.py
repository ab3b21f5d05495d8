"""Count how often the SDK sent a request, which a plain result does not show.

The module wraps the SDK's sleep before a retry. It is called only for retries, so a call that succeeds at once costs
nothing. A request is identified by its body, which the SDK passes unchanged from attempt to attempt.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from .endpoints import endpoint_of

PAUSES = ("_sleep_for_retry", "_retry_request")
"""The client methods that sleep before a retry: openai 1.66 has the second, later versions the first."""

attempts: dict[int, int] = {}
"""The number of attempts by the id of the request body. Contains only requests that were retried and still run."""

_MAX_RETRIED = 1_000


def counting_attempts(pause: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap the SDK's sleep before a retry, sync or async, to count the attempt."""

    @functools.wraps(pause)
    def counted(client: Any, *args: Any, **kwargs: Any) -> Any:
        options: Any = kwargs.get("options") or (args[0] if args else None)
        url, retries = getattr(options, "url", None), kwargs.get("retries_taken")
        if type(url) is str and type(retries) is int and endpoint_of(url) is not None:
            if len(attempts) >= _MAX_RETRIED:  # entries of clients that are not recorded are never removed
                attempts.clear()
            attempts[id(options.json_data)] = retries + 2
        return pause(client, *args, **kwargs)

    return counted
