"""The local dashboard and its JSON API. Needs ``pip install 'rlm_cachetrack[dashboard]'``.

It only formats: every number is a column of a named query. It reads through a store of its own, so the permissions of a
reader are enough; it does not write, does not recover journals, and migrates no more than opening a store does.
"""

from .serving import create_app, is_loopback, serve

__all__ = [
    "create_app",
    "is_loopback",
    "serve",
]
