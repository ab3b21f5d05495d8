"""The journal under a full, torn, vanished or forbidden disk: bounded, counted, said once, and never in the way."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rlm_cachetrack.journal import Journal, journal_files
from rlm_cachetrack.journal.segments import Segment, _allocate

HOLDER = """
import os, sys, time
from pathlib import Path
from rlm_cachetrack.journal import Journal, journal_files
from rlm_cachetrack.journal.segments import Segment, _allocate
journal = Journal(Path(sys.argv[1]))
for number in range(int(sys.argv[2])):
    journal.append({"number": number, "pid": os.getpid()})
print("ready", flush=True)
sys.stdin.read()
os._exit(0)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state" / "journal" / "store"


@pytest.fixture
def journal(folder: Path) -> Iterator[Journal]:
    journal = Journal(folder)
    yield journal
    journal.close()


def numbers(journal: Journal, most: int = 1_000_000) -> list[Any]:
    """What the next reads give, acknowledged."""
    found: list[Any] = []
    while batch := journal.read(most, 1 << 20):
        if not batch.entries:
            journal.ack(batch)
            break
        found += [event["number"] for event in batch.decode()]
        journal.ack(batch)
    return found


def open_files() -> int:
    return len(list(Path("/dev/fd").iterdir()))


def leave_behind(folder: Path, text: bytes, name: str = "1-dead.jsonl") -> Path:
    """The journal of a process that is gone."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(text)
    return path


# -- the writer ------------------------------------------------------------------------------------------------------


def test_an_append_wakes_a_writer_that_sleeps_and_asks_each_time_while_there_is_none(folder: Path) -> None:
    asked: list[bool] = []
    there = False

    def wake() -> bool:
        asked.append(there)
        return there

    journal = Journal(folder, start_writer=wake)
    journal.append({"number": 1})
    journal.append({"number": 2})
    there = True
    journal.append({"number": 3})
    journal.append({"number": 4})  # awake: not asked
    assert asked == [False, False, True]
    assert journal.wake.is_set()
    journal.wake.clear()
    journal.writer_waits = True  # as the writer does before it waits
    journal.append({"number": 5})
    assert (len(asked), journal.wake.is_set(), journal.writer_waits) == (4, True, False)
    journal.close()


# -- the bound -------------------------------------------------------------------------------------------------------


def test_a_full_journal_drops_counts_and_says_so_once_and_takes_records_again_when_there_is_room(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    line = len(b'{"number":0}\n')
    journal = Journal(folder, max_bytes=5 * line)
    assert [journal.append({"number": number}) for number in range(8)] == [True] * 5 + [False] * 3
    assert journal.dropped == {"journal_full": 3}
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "the journal is full (65 bytes)" in caplog.text
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 5 * line
    assert numbers(journal) == [0, 1, 2, 3, 4]
    assert journal.append({"number": 9})
    assert numbers(journal) == [9]
    assert (journal.pending, len(caplog.records)) == (0, 1)
    journal.close()


def test_a_full_journal_of_many_journals_stays_within_its_bound(folder: Path) -> None:
    bound = 9 << 20  # two journals of 4 MiB, and a rest
    journal = Journal(folder, max_bytes=bound)
    text = "x" * 100_000
    while journal.append({"number": 1, "text": text}):
        pass
    used = [path.stat() for path in folder.iterdir()]
    assert bound - 200_000 < sum(file.st_size for file in used) <= bound
    assert sum(file.st_blocks * 512 for file in used) <= bound + 4096 * len(used)
    assert len(numbers(journal)) == journal.appended
    journal.close()
    assert list(folder.iterdir()) == []


def test_what_is_stored_gives_its_disk_back(journal: Journal, folder: Path) -> None:
    text = "x" * 100_000
    for number in range(100):  # 10 MB: three journals
        journal.append({"number": number, "text": text})
    assert len(list(folder.iterdir())) == 3
    assert numbers(journal, 60) == list(range(100))
    assert len(list(folder.iterdir())) <= 1
    assert journal.pending == 0


def test_a_record_larger_than_a_journal_is_kept(journal: Journal) -> None:
    text = "x" * (5 << 20)
    journal.append({"number": 1, "text": text})
    journal.append({"number": 2})
    assert numbers(journal) == [1, 2]


# -- left-over journals ----------------------------------------------------------------------------------------------


def test_a_torn_last_record_is_counted_and_holds_back_no_other(folder: Path, journal: Journal) -> None:
    torn = leave_behind(folder, b'{"number":1}\n{"number":2}\n{"numb' + bytes(4096))
    journal.append({"number": 3})
    assert journal.recover() == 3
    assert sorted(numbers(journal)) == [1, 2, 3]
    assert (journal.dropped, journal.pending) == ({"torn": 1}, 0)
    assert not torn.exists()


def test_a_torn_record_that_is_offered_again_and_again_is_counted_once(folder: Path, journal: Journal) -> None:
    leave_behind(folder, b'{"number":1}\nnonsense\n{"numb')
    journal.recover()
    for _ in range(3):  # a store that cannot take them now
        batch = journal.read(10, 1 << 20)
        assert [event["number"] for event in batch.decode()] == [1]
        journal.nack()
    assert journal.dropped == {}
    assert numbers(journal) == [1]
    assert journal.dropped == {"corrupt": 1, "torn": 1}


def test_a_record_behind_a_gap_is_not_lost(folder: Path, journal: Journal) -> None:
    # An append that an exception broke off between taking its place and filling it; or a journal half cleared.
    leave_behind(folder, b'{"number":1}\n' + bytes(40) + b'{"number":2}\n' + bytes(9) + b'ber":9}\n{"number":3}\n')
    assert journal.recover() == 4
    assert numbers(journal) == [1, 2, 3]
    assert (journal.dropped, journal.pending) == ({}, 0)


def test_an_empty_journal_and_a_blank_one_are_removed(folder: Path, journal: Journal) -> None:
    leave_behind(folder, b"", "1-empty.jsonl")
    leave_behind(folder, bytes(1 << 16), "1-blank.jsonl")
    assert journal.recover() == 0
    assert numbers(journal) == []
    assert list(folder.iterdir()) == []


def test_a_journal_is_adopted_when_its_process_is_gone_whatever_its_pid_says(folder: Path, journal: Journal) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, folder, "3"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"ready\n"
        assert journal.recover() == 0  # it lives
        # A pid is used again: here by this very process, which lives.
        [path] = folder.glob("*.jsonl")
        path.rename(folder / f"{os.getpid()}-{path.name}")
        assert journal.recover() == 0
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    assert journal.recover() == 3
    assert numbers(journal) == [0, 1, 2]


def test_of_two_that_adopt_at_once_one_gets_each_journal(folder: Path) -> None:
    for number in range(40):
        leave_behind(folder, f'{{"number":{number}}}\n'.encode(), f"1-{number:03}.jsonl")
    opened = [Journal(folder) for _ in range(4)]
    begin = threading.Barrier(len(opened))
    found: list[list[Any]] = [[] for _ in opened]

    def work(place: int) -> None:
        begin.wait()
        opened[place].recover()
        found[place] = numbers(opened[place], 7)

    threads = [threading.Thread(target=work, args=(place,)) for place in range(len(opened))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(number for each in found for number in each) == list(range(40))
    assert list(folder.iterdir()) == []
    for journal in opened:
        journal.close()


def test_an_append_does_not_wait_for_the_files_of_others(
    folder: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_behind(folder, b'{"number":1}\n')
    reading, appended = threading.Event(), threading.Event()

    def read_from_a_slow_disk(segment: Segment) -> tuple[int, int]:
        reading.set()
        waited.append(appended.wait(10))
        return 1, 13

    waited: list[bool] = []
    monkeypatch.setattr("rlm_cachetrack.journal.segments.count_entries", read_from_a_slow_disk)
    adopting = threading.Thread(target=journal.recover)
    adopting.start()
    assert reading.wait(10)
    journal.append({"number": 2})
    appended.set()
    adopting.join()
    assert waited == [True]
    assert sorted(numbers(journal)) == [1, 2]


def test_a_closed_journal_does_not_take_back_what_it_left(folder: Path) -> None:
    closed, successor = Journal(folder), Journal(folder)
    closed.append({"number": 1})
    lent = closed.read(10, 1 << 20)
    closed.close()
    assert closed.recover() == 0
    closed.ack(lent)  # its last batch went on for longer than it was waited for
    assert closed.dropped == {}
    assert successor.recover() == 1
    assert numbers(successor) == [1]
    successor.close()


def test_a_journal_that_vanishes_while_others_are_adopted_is_no_hindrance(
    folder: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        leave_behind(folder, f'{{"number":{number}}}\n'.encode(), f"1-{number}.jsonl")
    look = Path.stat

    def stat_after_another_process_was_faster(path: Path, **more: Any) -> os.stat_result:
        if path.name == "1-1.jsonl":
            path.unlink(missing_ok=True)
        return look(path, **more)

    monkeypatch.setattr(Path, "stat", stat_after_another_process_was_faster)
    assert journal.recover() == 2
    assert numbers(journal) == [0, 2]


def test_what_is_no_journal_is_left_alone(folder: Path, journal: Journal) -> None:
    leave_behind(folder, b"notes\n", "README.txt")
    (folder / "a-folder.jsonl").mkdir()
    (folder / "dangling.jsonl").symlink_to(folder / "nowhere")
    assert journal.recover() == 0
    assert sorted(path.name for path in folder.iterdir()) == ["README.txt", "a-folder.jsonl", "dangling.jsonl"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file of another user's")
def test_the_journal_of_another_user_is_left_to_him() -> None:
    # Not pytest's tmp_path: whichever pytest starts next closes the folders of all to others.
    with tempfile.TemporaryDirectory(prefix="rlmct-", dir="/tmp") as shared:
        folder = Path(shared)
        folder.chmod(0o777)
        theirs = leave_behind(folder, b'{"number":1}\n')
        theirs.chmod(0o600)
        done = as_nobody(folder)
        assert (done.returncode, done.stderr) == (0, "")
        assert theirs.read_bytes() == b'{"number":1}\n'


def as_nobody(folder: Path) -> subprocess.CompletedProcess[str]:
    """What another user finds there, and that he records all the same."""
    program = """
import os, sys
from pathlib import Path
import rlm_cachetrack.journal.journal as journal
os.setuid(65534)
box = journal.Journal(Path(sys.argv[1]))
box.append({"number": 2})
assert box.recover() == 0, "it was another user's"
batch = box.read(10, 1000)
assert batch.entries == [b'{"number":2}\\n'], batch
box.ack(batch)
box.close()
"""
    return subprocess.run([sys.executable, "-c", program, folder], capture_output=True, text=True, check=False)


def test_the_journals_of_another_store_are_left_to_it(tmp_path: Path, db_url: str) -> None:
    from rlm_cachetrack import TimescaleDBClient

    other = leave_behind(tmp_path / "state" / "journal" / "0123456789abcdef", b'{"kind":"call"}\n')
    with TimescaleDBClient(db_url) as db:
        assert db.flush(20)
        assert db.stats()["recovered"] == 0
    assert other.read_bytes() == b'{"kind":"call"}\n'


def test_a_look_at_a_left_over_journal_does_not_keep_it_from_being_adopted(folder: Path, journal: Journal) -> None:
    """``journal status`` beside ``journal drain``: the one tries the lock that the other takes."""
    path = leave_behind(folder, b'{"number":1}\n')
    with path.open("rb") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        assert (journal.recover(), journal.more_to_recover) == (0, True)  # so that a flush waits for it
    assert (journal.recover(), journal.more_to_recover) == (1, False)
    assert numbers(journal) == [1]


def test_looking_at_journals_all_the_time_hides_none_from_an_adopter(folder: Path) -> None:
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            journal_files(folder)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        for number in range(50):
            leave_behind(folder, b"".join(b'{"number":%d}\n' % each for each in range(5_000)), f"1-{number}.jsonl")
            adopter = Journal(folder)
            while not adopter.recover():
                assert adopter.more_to_recover, "it was taken for the journal of a process that lives"
            assert numbers(adopter, 10_000) == list(range(5_000))
            adopter.close()
    finally:
        over.set()
        looking.join()


# -- a disk that refuses ---------------------------------------------------------------------------------------------


def impossible_folders(tmp_path: Path) -> list[Path]:
    (tmp_path / "file").write_text("")
    return [tmp_path / "file" / "state", Path("/proc/no-such-folder/state"), Path("/dev/null/state")]


def test_a_folder_that_cannot_be_made_is_said_once_and_records_wait_in_memory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for folder in impossible_folders(tmp_path):
        caplog.clear()
        journal = Journal(folder)
        assert journal.recover() == 0
        assert all(journal.append({"number": number}) for number in range(100))
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "records wait in memory and are lost if this process dies" in caplog.text
        assert numbers(journal, 7) == list(range(100))
        assert journal.pending == 0
        journal.close()
        assert len(caplog.records) == 1


def test_memory_is_bounded_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    journal = Journal(impossible_folders(tmp_path)[0])
    text = "x" * 100_000
    kept = sum(journal.append({"number": number, "text": text}) for number in range(300))
    assert 16_000_000 < kept * 100_000 < 17_000_000
    assert journal.dropped == {"memory_full": 300 - kept}
    assert len(caplog.records) == 2
    assert numbers(journal) == list(range(kept))
    journal.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own with room for one journal and a half."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", place], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("a small disk cannot be mounted here: that takes root")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_disk_that_becomes_full_loses_nothing_and_is_used_again_when_it_has_room(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal(small_disk / "journal")
    text = "x" * 10_000
    for number in range(1000):  # 10 MB onto a disk of 6: 4 MiB on it, the rest in memory
        assert journal.append({"number": number, "text": text})
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "No space left on device" in caplog.text
    assert journal.dropped == {}
    assert numbers(journal, 100) == list(range(1000))
    assert journal.append({"number": 1000})
    assert len(list((small_disk / "journal").iterdir())) == 1
    assert numbers(journal) == [1000]
    journal.close()


def test_what_is_parked_on_a_full_disk_leaves_nothing_there(small_disk: Path) -> None:
    journal = Journal(small_disk / "journal")
    files = open_files()
    assert journal.park({"number": 1, "text": "x" * (7 << 20)}) is None
    assert (list((small_disk / "journal").iterdir()), open_files()) == ([], files)
    journal.close()


def test_records_in_memory_go_to_disk_as_soon_as_it_takes_them(small_disk: Path) -> None:
    hog = small_disk / "hog"
    hog.write_bytes(bytes(5 << 20))
    journal = Journal(small_disk / "journal")
    for number in range(10):
        journal.append({"number": number})
    assert list((small_disk / "journal").iterdir()) == []
    hog.unlink()
    journal.recover()  # what the writer does every half minute, also while the database is away
    journal.append({"number": 10})
    journal.close()  # the process ends, nothing was stored
    successor = Journal(small_disk / "journal")
    assert successor.recover() == 11
    assert numbers(successor) == list(range(11))
    successor.close()


def test_what_is_lost_at_the_end_for_want_of_a_disk_is_said_with_its_number(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal(impossible_folders(tmp_path)[0])
    for number in range(7):
        journal.append({"number": number})
    journal.close()
    assert "7 records are lost" in caplog.records[-1].getMessage()
    assert journal.dropped == {"disk": 7}


def test_a_limit_on_the_size_of_files_does_not_kill_the_program(folder: Path) -> None:
    program = """
import resource, sys
from pathlib import Path
from rlm_cachetrack.journal import Journal, journal_files
from rlm_cachetrack.journal.segments import Segment, _allocate
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
journal = Journal(Path(sys.argv[1]))
assert all(journal.append({"number": number}) for number in range(100))
batch = journal.read(1000, 1 << 20)
assert len(batch.entries) == 100
"""
    done = subprocess.run([sys.executable, "-c", program, folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("cannot be written") == 1


def test_a_folder_deleted_under_us_loses_nothing_while_the_process_lives(folder: Path, journal: Journal) -> None:
    journal.append({"number": 1})
    shutil.rmtree(folder)
    journal.append({"number": 2})
    assert numbers(journal) == [1, 2]
    text = "x" * (1 << 20)
    for number in range(6):  # beyond the journal that is open: the folder is made again
        journal.append({"number": number, "text": text})
    assert len(list(folder.iterdir())) >= 1
    assert numbers(journal) == list(range(6))
    assert journal.pending == 0


def test_a_left_over_journal_cut_by_somebody_does_not_keep_flush_waiting(folder: Path, journal: Journal) -> None:
    path = leave_behind(folder, b'{"number":1}\n{"number":2}\n')
    assert journal.recover() == 2
    os.truncate(path, 0)
    assert numbers(journal) == []
    assert journal.pending == 0
    assert journal.dropped == {"truncated": 2}


def test_without_fallocate_the_room_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(fd: int, start: int, length: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with (tmp_path / "file").open("w+b") as file:
        _allocate(file.fileno(), 300_000)
        assert os.fstat(file.fileno()).st_size == 300_000


# -- what is in it, and who may read it ------------------------------------------------------------------------------


def test_journals_are_for_their_owner_alone_also_under_a_lax_umask(folder: Path) -> None:
    before = os.umask(0)
    try:
        journal = Journal(folder)
        journal.append({"number": 1})
        parked = journal.park({"number": 2})
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in (folder, folder.parent, folder.parent.parent)} == {0o700}
    journal.unpark(parked)
    assert numbers(journal) == [1]
    journal.close()


def test_a_journal_can_be_read_as_lines_of_json(folder: Path, journal: Journal) -> None:
    journal.append({"number": 1, "text": "zwei\nZeilen\r\u2028\x85"})
    [path] = folder.iterdir()
    [line] = path.read_bytes().rstrip(b"\0").splitlines()
    assert json.loads(line) == {"number": 1, "text": "zwei\nZeilen\r\u2028\x85"}
    assert numbers(journal) == [1]


def test_a_broken_off_append_leaves_the_count_right(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control-C while a journal is being opened: the call does not return, and nothing waits for ever."""

    def interrupted(segment_room: int) -> Segment:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(journal, "_open_segment", interrupted)
        with pytest.raises(KeyboardInterrupt):
            journal.append({"number": 1})
    assert journal.append({"number": 2})
    assert journal.pending == 1
    assert numbers(journal) == [2]


def test_logging_is_quiet_when_all_is_well(journal: Journal, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for number in range(100):
        journal.append({"number": number})
    assert numbers(journal) == list(range(100))
    assert caplog.records == []


def test_thousands_of_left_over_journals_are_adopted_with_few_open_files(folder: Path, journal: Journal) -> None:
    for number in range(300):
        leave_behind(folder, f'{{"number":{number}}}\n'.encode(), f"1-{number:04}.jsonl")
    open_before = open_files()
    found: list[Any] = []
    while journal.recover():
        assert open_files() <= open_before + 64
        found += numbers(journal)
    assert sorted(found) == list(range(300))
    assert not journal.more_to_recover
    assert open_files() == open_before


def test_what_a_process_left_that_was_killed_making_a_journal_is_removed_after_an_hour(
    folder: Path, journal: Journal
) -> None:
    old, fresh = (leave_behind(folder, b"", f"{pid}-0123.new") for pid in (1, 2))
    os.utime(old, (1, 1))
    journal.recover()
    assert list(folder.iterdir()) == [fresh]
