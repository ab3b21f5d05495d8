"""How often the SDK sent a request, where what it returns does not tell: a plain result knows nothing of its retries.

The SDK's own pause before a retry is watched. It comes only when there is a retry, so a call that succeeds at once pays
nothing. A request is told by its body, which the SDK hands from try to try.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .call import endpoint_of

__all__ = ["PAUSES", "paused", "sent"]

PAUSES = ("_sleep_for_retry", "_retry_request")
"""The methods of a client that pause before a retry; openai 1.66 has the second, later ones the first."""

sent: dict[int, int] = {}
"""How often the request with the body of this id was sent, of requests that were sent again and have not ended yet."""

_MOST = 1_000


def paused(wrapped: Callable[..., Any], client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Stand before the SDK's pause and take note that a request will be sent again. Sync and async alike."""
    options: Any = kwargs.get("options") or (args[0] if args else None)
    url, retries = getattr(options, "url", None), kwargs.get("retries_taken")
    if type(url) is str and type(retries) is int and endpoint_of(url) is not None:
        if len(sent) >= _MOST:  # clients that nobody records leave theirs here
            sent.clear()
        sent[id(options.json_data)] = retries + 2
    return wrapped(*args, **kwargs)
