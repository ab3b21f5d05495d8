"""The scopes of ``with tags(...)`` around a call.

A program may open a scope for each call, so opening one stores only its tags and the scope around it, and an event
contains the tags of scopes as they are: the writer thread merges them with those of run and client. The linked scopes
are tuples that never change, because tasks share them with the code that started them.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar

from rlm_cachetrack.records import MAX_TAGS, merge_tags

Tags = Mapping[str, str]
Scope = tuple[Tags, "Scope | None"]
"""The tags of one scope, which identify it, and the scope around it."""

innermost: ContextVar[Scope | None] = ContextVar("rlm_cachetrack_tags", default=None)
"""The innermost scope of a context."""
get_innermost, set_innermost = innermost.get, innermost.set


def without(scope: Scope | None, own: Tags) -> Scope | None:
    """Return ``scope`` and those around it without the innermost one that has the tags ``own``, compared by identity.

    If none has them, because this is another context, ``scope`` is returned.
    """
    inner = []
    level = scope
    while level is not None and level[0] is not own:
        inner.append(level[0])
        level = level[1]
    if level is None:
        return scope
    rest = level[1]
    for tags in reversed(inner):
        rest = (tags, rest)
    return rest


def tags_inside(scope: Scope | None, around: Scope | None) -> Tags | None:
    """Return the tags of ``scope`` and the scopes around it up to ``around`` (exclusive); None without any."""
    if scope is None or scope is around:
        return None
    found, level = scope
    while level is not None and level is not around:
        found = {**level[0], **found}
        level = level[1]
    if len(found) > MAX_TAGS:
        layers = []
        while scope is not None and scope is not around:
            layers.append(scope[0])
            scope = scope[1]
        return merge_tags(*layers)
    return found or None
