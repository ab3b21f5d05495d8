"""The endpoint of the examples: a simulated one on loopback, or the real API with ``--live``.

The simulated endpoint speaks OpenAI's API over real HTTP and caches prompts by OpenAI's published rules, so that every
example runs offline and free of charge through the real SDK. Your own program does not need this file.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rlm_cachetrack.simulator import SimulatedEndpoint

LIVE = "--live" in sys.argv[1:]


@contextmanager
def endpoint() -> Iterator[dict[str, Any]]:
    """Yield the arguments for ``OpenAI(...)``: none for the real API, else the address of the simulated one."""
    if not LIVE:
        with SimulatedEndpoint() as simulated:
            yield {"base_url": simulated.base_url, "api_key": "simulated"}
    elif os.environ.get("OPENAI_API_KEY"):
        yield {}
    else:
        sys.exit("--live calls the real API: set OPENAI_API_KEY, or omit --live")
