"""The command line ``rlm-cachetrack``: parse arguments, call the client, format the result. No SQL, no arithmetic.

One module per group of commands. Results go to stdout, everything else to stderr. Exit codes: 0 ok; 1 not found, a
check failed, or the database cannot be used as it is; 2 invalid usage or settings; 3 the database cannot be reached.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .program import app

__all__ = [
    "app",
    "main",
]


def main() -> None:
    """Run the command line and end the process with the command's exit code."""
    from rlm_cachetrack._process import handle_ctrl_c

    handle_ctrl_c()  # before the commands are loaded: a Ctrl-C during an import can get lost
    if sys.argv[1:] == ["--version"]:  # without loading the commands, which takes ten times as long
        from rlm_cachetrack._version import __version__

        sys.stdout.write(f"rlm_cachetrack {__version__}\n")
        return
    from .program import main as run

    run()


def __getattr__(name: str) -> Any:
    if name == "app":
        from .program import app

        return app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
