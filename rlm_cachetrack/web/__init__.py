"""The local dashboard and its JSON API. Needs ``pip install 'rlm_cachetrack[dashboard]'``.

It only formats: every number is a column of a named query. It reads through a separate store, so the permissions of a
reader are enough. It does not write, does not recover journals, and runs only the migrations that opening a store runs.
"""

from .serving import create_app, is_loopback, serve

__all__ = [
    "create_app",
    "is_loopback",
    "serve",
]
