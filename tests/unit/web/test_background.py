"""Values that a background thread loads while pages show the previous ones."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

pytest.importorskip("fastapi", reason="the dashboard needs its extra")

from rlm_cachetrack.web import background
from rlm_cachetrack.web.background import BackgroundValues

PATIENCE_S = 60.0


@pytest.fixture
def values() -> Iterator[BackgroundValues]:
    made = BackgroundValues()
    yield made
    made.close()


def returning(value: int) -> Callable[[], int]:
    return lambda: value


def test_a_slow_value_is_none_until_it_is_loaded(values: BackgroundValues) -> None:
    may_end = threading.Event()

    def load() -> int:
        assert may_end.wait(PATIENCE_S)
        return 7

    assert values.get("sum", load, 0.01) is None
    may_end.set()
    assert values.get("sum", load, PATIENCE_S) == 7


def test_a_value_is_kept(values: BackgroundValues) -> None:
    assert values.get("sum", returning(1), PATIENCE_S) == 1
    assert values.get("sum", returning(2), PATIENCE_S) == 1
    assert values.get("other", returning(3), PATIENCE_S) == 3


def test_the_last_value_is_shown_while_the_next_one_loads(
    values: BackgroundValues, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "_KEPT_S", 0.0)
    monkeypatch.setattr(background, "_KEPT_FACTOR", 0.0)
    may_end = threading.Event()

    def load() -> int:
        assert may_end.wait(PATIENCE_S)
        return 2

    assert values.get("sum", returning(1), PATIENCE_S) == 1
    assert values.get("sum", load, PATIENCE_S) == 1  # does not wait: there is a value
    may_end.set()
    monkeypatch.setattr(background, "_KEPT_S", PATIENCE_S)
    while values.get("sum", load, PATIENCE_S) != 2:
        pass


def test_an_error_is_raised_once_and_the_value_is_loaded_again(values: BackgroundValues) -> None:
    def fail() -> int:
        raise ValueError("no server")

    with pytest.raises(ValueError, match="no server"):
        values.get("sum", fail, PATIENCE_S)
    assert values.get("sum", returning(1), PATIENCE_S) == 1
