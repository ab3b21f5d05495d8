"""The part of :class:`~rlm_cachetrack.TimescaleDBClient` that records by hand: context, runs and calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from rlm_cachetrack.capture import context
from rlm_cachetrack.errors import RecordError, safe_repr
from rlm_cachetrack.records import (
    LLMInteractionRecord,
    aware,
    check_count,
    checked_json,
    checked_outcome,
    checked_query_id,
    event_of_record,
    new_id,
)

from .base import ClientBase

_CONTEXT_NUMBERS = ("iteration", "current_depth", "max_depth", "model_index")


class Recording(ClientBase):
    """Methods that record manually. Each appends to the journal and returns without waiting for the database."""

    def set_context(
        self,
        query_id: str | None = None,
        run_id: datetime | str | None = None,
        iteration: int | None = None,
        current_depth: int | None = None,
        max_depth: int | None = None,
        recursion_id: str | UUID | None = None,
        parent_recursion_id: str | UUID | None = None,
        model: str | None = None,
        model_index: int | None = None,
        model_type: str | None = None,
    ) -> None:
        """Set the run context of the following records. Arguments that are not passed keep their value.

        The context fills the fields that a record leaves out. It also applies to the instrumented calls of this
        process that are made outside any ``query_run``.

        Raises:
            RecordError: ``query_id`` is empty, ``run_id`` is naive, or a number is not a whole number of at least 0.
        """
        given: dict[str, Any] = {
            "query_id": None if query_id is None else checked_query_id(query_id),
            "run_id": None if run_id is None else aware(run_id, "run_id").isoformat(),
            "iteration": iteration,
            "current_depth": current_depth,
            "max_depth": max_depth,
            "recursion_id": None if recursion_id is None else str(recursion_id),
            "parent_recursion_id": None if parent_recursion_id is None else str(parent_recursion_id),
            "model": model,
            "model_index": model_index,
            "model_type": model_type,
        }
        for name in _CONTEXT_NUMBERS:
            check_count(name, given[name])
        self._check_open()
        with self._lock:
            self._context.update({name: value for name, value in given.items() if value is not None})
        context.set_manual(self._context)

    def initialize_query_run(
        self, query_id: str, run_id: datetime | str, metadata: Mapping[str, Any] | None = None
    ) -> None:
        """Record that a run begins. Recording it again only adds metadata to a run that has none.

        Raises:
            RecordError: ``query_id`` is empty, ``run_id`` is naive, or JSON cannot represent ``metadata``.
        """
        query_id, moment = self._key(query_id, run_id)
        self._runtime.append_run("run_start", query_id, moment, metadata=checked_json(metadata, "metadata"))

    def record_llm_interaction(self, record: LLMInteractionRecord) -> str:
        """Append a record to the journal; the writer stores it in the background.

        Fields that the record leaves out are filled: uncached tokens, prices, costs, and the current context.

        Returns:
            Its ``interaction_id``, a UUIDv7.

        Raises:
            RecordError: The record is inconsistent; nothing was recorded.
        """
        self._check_open()
        if not isinstance(record, LLMInteractionRecord):
            raise RecordError(f"expected an LLMInteractionRecord, not {type(record).__name__}")
        interaction_id = str(record.interaction_id) if record.interaction_id is not None else new_id()
        try:
            interaction_id = str(UUID(interaction_id))
        except ValueError:
            raise RecordError(f"interaction_id={safe_repr(record.interaction_id)}: expected a UUID") from None
        values = self._current_context()
        run_id = record.run_id if record.run_id is not None else values.get("run_id")
        record = replace(
            record,
            query_id=record.query_id or values.get("query_id", ""),
            run_id=aware(run_id, "run_id"),
            model=record.model or values.get("model", ""),
            interaction_id=interaction_id,
        )
        record.check()
        run = (record.query_id, record.run_id.isoformat())
        if (values.get("query_id", run[0]), values.get("run_id", run[1])) != run:
            values = {}  # the context belongs to another run than the record
        self._runtime.append(event_of_record(record, values))
        return interaction_id

    def complete_query_run(self, query_id: str, run_id: datetime | str, status: str = "completed") -> None:
        """Record that a run ended; its optimization is stored after its last record.

        Raises:
            RecordError: ``run_id`` is naive, or ``status`` is not a word.
        """
        query_id, moment = self._key(query_id, run_id)
        if not isinstance(status, str) or not status:
            raise RecordError(f"status={safe_repr(status)}: expected a word such as 'completed' or 'error'")
        self._runtime.append_run("run_end", query_id, moment, status=status)

    def record_outcome(
        self,
        query_id: str,
        run_id: datetime | str,
        success: bool | None = None,
        score: float | None = None,
        label: str | None = None,
    ) -> None:
        """Record what a run achieved, also after it ended. A later outcome replaces the values it gives.

        Args:
            query_id: The query of the run.
            run_id: The start of the run.
            success: Whether the task was solved.
            score: A finite number, higher is better.
            label: A label of your choice, such as ``timeout``.

        Raises:
            RecordError: A value has the wrong type, or success, score and label are all None.
        """
        query_id, moment = self._key(query_id, run_id)
        self._runtime.append_run("run_outcome", query_id, moment, **checked_outcome(success, score, label))

    def _current_context(self) -> dict[str, Any]:
        """Return the active run's context, completed from this client's context if both are of the same run."""
        values = context.current() if context.active() is not None else {}
        values = {name: value for name, value in values.items() if value is not None}
        if tags := context.current_tags():
            values["tags"] = tags
        with self._lock:
            ours = self._context if context.of_same_run(self._context, values) else {}
            return {**ours, **values}
