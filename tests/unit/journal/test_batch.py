"""Reading a journal in batches."""

from __future__ import annotations

from typing import Any

from rlm_cachetrack.journal import Journal


def test_a_journal_is_read_to_its_end_whatever_the_size_of_the_batches(tmp_path: Any) -> None:
    journal = Journal(tmp_path)
    for number in range(257):
        journal.append({"kind": "x" * (number % 50), "number": number})
    numbers: list[int] = []
    while True:
        batch = journal.read(10, 300)
        if not batch.entries:
            break
        numbers += [event["number"] for event in batch.decode()]
        assert batch.own == len(batch.entries)
        journal.ack(batch)
    assert numbers == list(range(257))
    assert journal.pending == 0
    journal.close()
