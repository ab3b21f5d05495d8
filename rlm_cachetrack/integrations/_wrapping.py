"""Wrap methods of a framework, and restore them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any


def wrap_method(owner: Any, name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Callable[[], None]:
    """Replace a method by the wrapper that ``make`` returns for it.

    Returns:
        A function that restores the method, unless another instrumentation has replaced the wrapper since.
    """
    method = getattr(owner, name)
    is_own = name in vars(owner)
    wrapper = functools.wraps(method)(make(method))
    setattr(owner, name, wrapper)

    def restore() -> None:
        if vars(owner).get(name) is not wrapper:
            return
        if is_own:
            setattr(owner, name, method)
        else:
            delattr(owner, name)

    return restore
