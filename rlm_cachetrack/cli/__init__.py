"""The command line ``rlm-cachetrack``: parse arguments, call the client, format the result. No SQL, no arithmetic.

One module per group of commands. Results go to stdout, everything else to stderr. Exit codes: 0 ok; 1 not found, a
check failed, or the database cannot be used as it is; 2 invalid usage or settings; 3 the database cannot be reached.
"""

from .program import app, main

__all__ = [
    "app",
    "main",
]
