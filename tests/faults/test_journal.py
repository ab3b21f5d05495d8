"""The journal on a full, read-only or damaged disk: bounded, counted, logged once, harmless to the caller."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import random
import re
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
from rlm_cachetrack.journal.segments import Segment

LOCKING_PROGRAM = """
import os, sys, time
from pathlib import Path
from rlm_cachetrack.journal import Journal
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
    """Read and acknowledge everything; return the events' numbers."""
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


def leave_journal(folder: Path, text: bytes, name: str = "1-dead.jsonl") -> Path:
    """Write the journal of a dead process."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(text)
    return path


# -- the writer ------------------------------------------------------------------------------------------------------


def test_an_append_wakes_the_waiting_writer_and_starts_one_while_none_runs(folder: Path) -> None:
    started: list[bool] = []
    runs = False

    def start_writer() -> bool:
        started.append(runs)
        return runs

    journal = Journal(folder, start_writer=start_writer)
    journal.append({"number": 1})
    journal.append({"number": 2})
    runs = True
    journal.append({"number": 3})
    journal.append({"number": 4})  # the writer is awake
    assert started == [False, False, True]
    assert journal.wake.is_set()
    journal.wake.clear()
    journal.writer_waits = True  # as the writer does before it waits
    journal.append({"number": 5})
    assert (len(started), journal.wake.is_set(), journal.writer_waits) == (4, True, False)
    journal.close()


# -- the bound -------------------------------------------------------------------------------------------------------


def test_a_full_journal_drops_and_counts_events_until_there_is_room(
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


def test_a_full_journal_of_several_files_stays_within_its_bound(folder: Path) -> None:
    bound = 9 << 20  # two files of 4 MiB, and a smaller one
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


def test_stored_events_free_their_disk_space(journal: Journal, folder: Path) -> None:
    text = "x" * 100_000
    for number in range(100):  # 10 MB: three files
        journal.append({"number": number, "text": text})
    assert len(list(folder.iterdir())) == 3
    assert numbers(journal, 60) == list(range(100))
    assert len(list(folder.iterdir())) <= 1
    assert journal.pending == 0


def test_an_event_larger_than_a_file_is_kept(journal: Journal) -> None:
    text = "x" * (5 << 20)
    journal.append({"number": 1, "text": text})
    journal.append({"number": 2})
    assert numbers(journal) == [1, 2]


# -- recovery --------------------------------------------------------------------------------------------------------


def test_a_torn_last_event_is_counted_and_stops_no_other(folder: Path, journal: Journal) -> None:
    torn = leave_journal(folder, b'{"number":1}\n{"number":2}\n{"numb' + bytes(4096))
    journal.append({"number": 3})
    assert journal.recover() == 3
    assert sorted(numbers(journal)) == [1, 2, 3]
    assert (journal.dropped, journal.pending) == ({"torn": 1}, 0)
    assert not torn.exists()


def test_a_torn_event_is_counted_once_however_often_it_is_retried(folder: Path, journal: Journal) -> None:
    leave_journal(folder, b'{"number":1}\nnonsense\n{"numb')
    journal.recover()
    for _ in range(3):  # the store is not available
        batch = journal.read(10, 1 << 20)
        assert [event["number"] for event in batch.decode()] == [1]
        journal.nack()
    assert journal.dropped == {}
    assert numbers(journal) == [1]
    assert journal.dropped == {"corrupt": 1, "torn": 1}


def test_an_event_behind_a_gap_is_not_lost(folder: Path, journal: Journal) -> None:
    # An exception interrupted an append after it reserved its bytes; or the file was half cleared.
    leave_journal(folder, b'{"number":1}\n' + bytes(40) + b'{"number":2}\n' + bytes(9) + b'ber":9}\n{"number":3}\n')
    assert journal.recover() == 4
    assert numbers(journal) == [1, 2, 3]
    assert (journal.dropped, journal.pending) == ({}, 0)


def damaged(rng: random.Random, text: bytes) -> tuple[bytes, set[int]]:
    """Return a damaged journal, and the numbers of the events whose lines are whole and at their start.

    The damage: bytes are overwritten by noise, cleared, cut out or added, or the end is missing.
    """
    begin = rng.randrange(len(text))
    end = min(len(text), begin + rng.choice([1, 7, 60, 700]))
    noise = bytes(rng.randrange(256) for _ in range(end - begin))
    text = {
        "overwritten": text[:begin] + noise + text[end:],
        "cleared": text[:begin] + bytes(end - begin) + text[end:],
        "cut out": text[:begin] + text[end:],
        "added": text[:begin] + noise + text[begin:],
        "shortened": text[:begin],
    }[rng.choice(["overwritten", "cleared", "cut out", "added", "shortened"])]
    lines = [line for line in text.split(b"\n")[:-1] if re.fullmatch(rb'{"number":(\d+),"text":"x*","same":\1}', line)]
    return text, {json.loads(line)["number"] for line in lines}


@pytest.mark.parametrize("count", [40, pytest.param(600, marks=pytest.mark.faults)])
def test_damaged_journals_lose_only_the_damaged_events(folder: Path, journal: Journal, count: int) -> None:
    # With the fixed seed a cut leaves an event without numbers.
    seed = 703156802 if count == 40 else random.randrange(1 << 30)
    print(f"seed {seed}")  # pytest shows it if the test fails
    rng = random.Random(seed)
    whole: set[int] = set()
    for number in range(count):
        events = range(number * 100, number * 100 + 30)
        lines = [f'{{"number":{each},"text":"{"x" * rng.choice([0, 5, 200])}","same":{each}}}' for each in events]
        text, kept = damaged(rng, "".join(f"{line}\n" for line in lines).encode())
        leave_journal(folder, text, f"1-{number:04}.jsonl")
        whole |= kept
    found: list[Any] = []
    while True:
        journal.recover()
        batch = journal.read(1_000, 1 << 20)
        if not batch.entries and not journal.more_to_recover:
            break
        # A cut can merge two events into one whose two numbers differ or are missing.
        found += [event["number"] for event in batch.decode() if event.get("number", -1) == event.get("same")]
        journal.ack(batch)
    journal.ack(batch)
    assert whole <= set(found)
    assert len([number for number in found if number in whole]) == len(whole)
    assert (journal.pending, list(folder.glob("1-*"))) == (0, [])


def test_files_without_events_are_removed(folder: Path, journal: Journal) -> None:
    leave_journal(folder, b"", "1-empty.jsonl")
    leave_journal(folder, bytes(1 << 16), "1-nul.jsonl")
    assert journal.recover() == 0
    assert numbers(journal) == []
    assert list(folder.iterdir()) == []


def test_a_journal_is_recovered_when_its_process_is_dead_whatever_its_pid(folder: Path, journal: Journal) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", LOCKING_PROGRAM, folder, "3"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        assert journal.recover() == 0  # the process lives
        # A pid may be used again: here by this process, which lives.
        [path] = folder.glob("*.jsonl")
        path.rename(folder / f"{os.getpid()}-{path.name}")
        assert journal.recover() == 0
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert journal.recover() == 3
    assert numbers(journal) == [0, 1, 2]


def test_each_journal_is_recovered_by_one_of_several_processes(folder: Path) -> None:
    for number in range(40):
        leave_journal(folder, f'{{"number":{number}}}\n'.encode(), f"1-{number:03}.jsonl")
    opened = [Journal(folder) for _ in range(4)]
    begin = threading.Barrier(len(opened))
    found: list[list[Any]] = [[] for _ in opened]

    def work(index: int) -> None:
        begin.wait()
        opened[index].recover()
        found[index] = numbers(opened[index], 7)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(opened))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(number for each in found for number in each) == list(range(40))
    assert list(folder.iterdir()) == []
    for journal in opened:
        journal.close()


def test_an_append_does_not_wait_for_a_recovery(
    folder: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_journal(folder, b'{"number":1}\n')
    reading, appended = threading.Event(), threading.Event()

    def read_from_a_slow_disk(segment: Segment) -> tuple[int, int]:
        reading.set()
        waited.append(appended.wait(120))
        return 1, 13

    waited: list[bool] = []
    monkeypatch.setattr("rlm_cachetrack.journal.segments.count_entries", read_from_a_slow_disk)
    recovering = threading.Thread(target=journal.recover)
    recovering.start()
    assert reading.wait(120)
    journal.append({"number": 2})
    appended.set()
    recovering.join()
    assert waited == [True]
    assert sorted(numbers(journal)) == [1, 2]


def test_a_closed_journal_does_not_recover_its_own_files(folder: Path) -> None:
    closed, successor = Journal(folder), Journal(folder)
    closed.append({"number": 1})
    read = closed.read(10, 1 << 20)
    closed.close()
    assert closed.recover() == 0
    closed.ack(read)  # its last batch took longer than close() waited
    assert closed.dropped == {}
    assert successor.recover() == 1
    assert numbers(successor) == [1]
    successor.close()


def test_a_recovery_skips_a_journal_that_another_process_removed(
    folder: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        leave_journal(folder, f'{{"number":{number}}}\n'.encode(), f"1-{number}.jsonl")
    look = Path.stat

    def stat_after_another_process_removed_it(path: Path, **more: Any) -> os.stat_result:
        if path.name == "1-1.jsonl":
            path.unlink(missing_ok=True)
        return look(path, **more)

    monkeypatch.setattr(Path, "stat", stat_after_another_process_removed_it)
    assert journal.recover() == 2
    assert numbers(journal) == [0, 2]


def test_files_that_are_not_journals_are_ignored(folder: Path, journal: Journal) -> None:
    leave_journal(folder, b"notes\n", "README.txt")
    (folder / "a-folder.jsonl").mkdir()
    (folder / "dangling.jsonl").symlink_to(folder / "nowhere")
    assert journal.recover() == 0
    assert sorted(path.name for path in folder.iterdir()) == ["README.txt", "a-folder.jsonl", "dangling.jsonl"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can create files of another user")
def test_the_journal_of_another_user_is_ignored() -> None:
    # Not pytest's tmp_path, whose parent is private.
    with tempfile.TemporaryDirectory(prefix="rlmct-", dir="/tmp") as shared:
        folder = Path(shared)
        folder.chmod(0o777)
        theirs = leave_journal(folder, b'{"number":1}\n')
        theirs.chmod(0o600)
        done = as_nobody(folder)
        assert (done.returncode, done.stderr) == (0, "")
        assert theirs.read_bytes() == b'{"number":1}\n'


def as_nobody(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a process of another user that records and tries to recover."""
    program = """
import os, sys
from pathlib import Path
import rlm_cachetrack.journal.journal as journal
os.setuid(65534)
theirs = journal.Journal(Path(sys.argv[1]))
theirs.append({"number": 2})
assert theirs.recover() == 0, "it belongs to another user"
batch = theirs.read(10, 1000)
assert batch.entries == [b'{"number":2}\\n'], batch
theirs.ack(batch)
theirs.close()
"""
    return subprocess.run([sys.executable, "-c", program, folder], capture_output=True, text=True, check=False)


def test_the_journals_of_another_store_are_ignored(tmp_path: Path, db_url: str) -> None:
    from rlm_cachetrack import TimescaleDBClient

    other = leave_journal(tmp_path / "state" / "journal" / "0123456789abcdef", b'{"kind":"call"}\n')
    with TimescaleDBClient(db_url) as db:
        assert db.flush(120)
        assert db.stats()["recovered"] == 0
    assert other.read_bytes() == b'{"kind":"call"}\n'


def test_inspecting_a_journal_does_not_prevent_its_recovery(folder: Path, journal: Journal) -> None:
    """``journal status`` tests the lock that ``journal drain`` takes."""
    path = leave_journal(folder, b'{"number":1}\n')
    with path.open("rb") as inspected:
        fcntl.flock(inspected, fcntl.LOCK_SH)
        assert (journal.recover(), journal.more_to_recover) == (0, True)  # so that a flush waits for it
    assert (journal.recover(), journal.more_to_recover) == (1, False)
    assert numbers(journal) == [1]


def test_constant_inspection_of_journals_hides_none_from_a_recovery(folder: Path) -> None:
    done = threading.Event()

    def inspect() -> None:
        while not done.is_set():
            journal_files(folder)

    inspecting = threading.Thread(target=inspect)
    inspecting.start()
    try:
        for number in range(50):
            leave_journal(folder, b"".join(b'{"number":%d}\n' % each for each in range(5_000)), f"1-{number}.jsonl")
            successor = Journal(folder)
            while not successor.recover():
                assert successor.more_to_recover, "it was taken for the journal of a live process"
            assert numbers(successor, 10_000) == list(range(5_000))
            successor.close()
    finally:
        done.set()
        inspecting.join()


# -- a disk that refuses ---------------------------------------------------------------------------------------------


def impossible_folders(tmp_path: Path) -> list[Path]:
    (tmp_path / "file").write_text("")
    return [tmp_path / "file" / "state", Path("/proc/no-such-folder/state"), Path("/dev/null/state")]


def test_events_wait_in_memory_if_the_folder_cannot_be_created(
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


def test_the_queue_in_memory_is_bounded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    journal = Journal(impossible_folders(tmp_path)[0])
    text = "x" * 100_000
    kept = sum(journal.append({"number": number, "text": text}) for number in range(300))
    assert 16_000_000 < kept * 100_000 < 17_000_000
    assert journal.dropped == {"memory_full": 300 - kept}
    assert len(caplog.records) == 2
    assert numbers(journal) == list(range(kept))
    journal.close()


FILE_SYSTEMS = {  # the smallest size of each; xfs and btrfs accept no smaller ones
    "tmpfs": "6m",
    "ext4": "16m",
    "xfs": "320m",
    "btrfs": "110m",
}


def mount_disk(kind: str, folder: Path) -> Path:
    """Mount a small disk with the given file system; skip the test if this machine cannot."""
    disk = folder / f"disk-{kind}"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={FILE_SYSTEMS[kind]}", "tmpfs", str(disk)]
    if kind != "tmpfs":
        image = folder / f"{kind}.image"
        with image.open("wb") as file:
            file.truncate(int(FILE_SYSTEMS[kind][:-1]) << 20)
        if shutil.which(f"mkfs.{kind}") is None:
            pytest.skip(f"mkfs.{kind} is not installed")
        subprocess.run([f"mkfs.{kind}", "-q", str(image)], check=True, capture_output=True)
        command = ["mount", "-o", "loop", str(image), str(disk)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip(f"this machine does not mount {kind}")
    return disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk with room for one and a half journal files."""
    disk = mount_disk("tmpfs", tmp_path)
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.fixture(params=list(FILE_SYSTEMS))
def any_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """Mount a small disk of each file system."""
    disk = mount_disk(request.param, tmp_path)
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


FILLING_PROGRAM = """
import os, sys
from pathlib import Path
from rlm_cachetrack.journal import Journal
disk = Path(sys.argv[1])
journal = Journal(disk / "journal")
def call(number):
    assert journal.append({"number": number, "text": "x" * 3000})
for number in range(20):
    call(number)
first = journal.read(10, 1 << 20)
journal.ack(first)  # clears a part of the file
os.sync()  # from now on a copy-on-write file system needs new blocks for the pages that are on the disk
hog = os.open(disk / "hog", os.O_WRONLY | os.O_CREAT)
size = 1 << 20
while size:
    try:
        while os.write(hog, os.urandom(size)):
            pass
    except OSError:
        size //= 2
os.close(hog)
for number in range(20, 120):
    call(number)
os.sync()
numbers = [event["number"] for event in first.decode()]
while (batch := journal.read(1000, 1 << 20)).entries:
    numbers += [event["number"] for event in batch.decode()]
    journal.ack(batch)
assert numbers == list(range(120)), numbers
os.unlink(disk / "hog")
while os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize < 1 << 20:
    os.sync()  # XFS frees the room of a file later
call(120)
journal.close()
print(journal.dropped, journal.pending)
"""


def test_a_full_disk_of_any_file_system_neither_kills_nor_loses(any_disk: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FILLING_PROGRAM, any_disk], capture_output=True, text=True, check=False, timeout=240
    )
    assert (done.returncode, done.stdout) == (0, "Counter() 1\n"), done.stderr
    successor = Journal(any_disk / "journal")
    successor.recover()
    assert numbers(successor)[-1:] == [120]
    successor.close()


def test_a_full_disk_loses_nothing_and_is_used_again_when_it_has_room(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal(small_disk / "journal")
    text = "x" * 10_000
    for number in range(1000):  # 10 MB on a disk of 6 MB: what does not fit stays in memory
        assert journal.append({"number": number, "text": text})
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "No space left on device" in caplog.text
    assert journal.dropped == {}
    assert numbers(journal, 100) == list(range(1000))
    assert journal.append({"number": 1000})
    assert len(list((small_disk / "journal").iterdir())) == 1
    assert numbers(journal) == [1000]
    journal.close()


def test_parking_on_a_full_disk_leaves_no_file(small_disk: Path) -> None:
    journal = Journal(small_disk / "journal")
    files = open_files()
    assert journal.park({"number": 1, "text": "x" * (7 << 20)}) is None
    assert (list((small_disk / "journal").iterdir()), open_files()) == ([], files)
    journal.close()


def test_events_in_memory_move_to_the_disk_as_soon_as_it_has_room(small_disk: Path) -> None:
    hog = small_disk / "hog"
    with pytest.raises(OSError, match="No space left"):
        hog.write_bytes(bytes(7 << 20))
    journal = Journal(small_disk / "journal")
    for number in range(10):
        journal.append({"number": number})
    assert list((small_disk / "journal").iterdir()) == []
    hog.unlink()
    journal.recover()  # the writer does it every half minute, also while the database is unavailable
    journal.append({"number": 10})
    journal.close()  # the process ends without storing anything
    successor = Journal(small_disk / "journal")
    assert successor.recover() == 11
    assert numbers(successor) == list(range(11))
    successor.close()


def test_the_number_of_events_lost_without_a_disk_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    journal = Journal(impossible_folders(tmp_path)[0])
    for number in range(7):
        journal.append({"number": number})
    journal.close()
    assert "7 records are lost" in caplog.records[-1].getMessage()
    assert journal.dropped == {"disk": 7}


def test_a_file_size_limit_does_not_kill_the_program(folder: Path) -> None:
    program = """
import resource, sys
from pathlib import Path
from rlm_cachetrack.journal import Journal
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
journal = Journal(Path(sys.argv[1]))
assert all(journal.append({"number": number}) for number in range(100))
batch = journal.read(1000, 1 << 20)
assert len(batch.entries) == 100
"""
    done = subprocess.run([sys.executable, "-c", program, folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("cannot be written") == 1


def test_a_deleted_folder_loses_nothing_while_the_process_lives(folder: Path, journal: Journal) -> None:
    journal.append({"number": 1})
    shutil.rmtree(folder)
    journal.append({"number": 2})
    assert numbers(journal) == [1, 2]
    text = "x" * (1 << 20)
    for number in range(6):  # more than the open file has room for: the folder is created again
        journal.append({"number": number, "text": text})
    assert len(list(folder.iterdir())) >= 1
    assert numbers(journal) == list(range(6))
    assert journal.pending == 0


def test_a_removed_journal_is_written_anew(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    journal = Journal(folder)
    for number in range(10):
        journal.append({"number": number})
    batch = journal.read(4, 1 << 20)
    journal.ack(batch)
    parked = journal.park({"number": 100})
    shutil.rmtree(folder.parent)
    journal.rewrite_removed()  # the writer calls it
    for number in range(10, 20):
        journal.append({"number": number})
    journal.rewrite_removed()
    assert (journal.rewritten, journal.dropped) == (2, {})
    assert "were written again" in caplog.records[0].getMessage()
    assert len(caplog.records) == 1
    journal.unpark(parked)
    journal.close()
    successor = Journal(folder)
    assert successor.recover() == 16
    assert sorted(numbers(successor)) == list(range(4, 20))
    successor.close()


def test_a_journal_removed_before_the_end_of_the_process_is_written_anew(folder: Path) -> None:
    journal = Journal(folder)
    for number in range(10):
        journal.append({"number": number})
    shutil.rmtree(folder)
    journal.close()
    successor = Journal(folder)
    assert successor.recover() == 10
    successor.close()


def test_records_of_a_removed_journal_are_counted_if_no_new_one_can_be_written(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    journal = Journal(folder)
    for number in range(10):
        journal.append({"number": number})
    shutil.rmtree(folder)
    folder.write_text("")  # no folder can be created here
    journal.rewrite_removed()
    journal.close()
    assert journal.dropped == {"removed": 10}


def test_an_empty_removed_journal_takes_no_more_events(folder: Path, journal: Journal) -> None:
    journal.append({"number": 1})
    assert numbers(journal) == [1]
    shutil.rmtree(folder)
    journal.rewrite_removed()
    journal.append({"number": 2})
    [path] = folder.iterdir()
    assert b'"number":2' in path.read_bytes()
    assert journal.rewritten == 0


@pytest.mark.parametrize("size", [0, 20, 39, 130])
def test_a_journal_truncated_while_its_process_writes_it_blocks_nothing(
    folder: Path, journal: Journal, size: int
) -> None:
    for number in range(10):
        journal.append({"number": number})
    [path] = folder.iterdir()
    os.truncate(path, size)
    for number in range(20, 25):
        journal.append({"number": number})
    found = numbers(journal)
    assert found == [*range(min(size, 130) // 13), 20, 21, 22, 23, 24]  # 13 bytes each
    assert journal.pending == 0
    assert len(found) + sum(journal.dropped.values()) == 15


def test_a_write_that_fails_in_the_middle_damages_no_other_event(
    folder: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that becomes full during a write accepts a part of the event."""
    journal.append({"number": 1})
    write = os.pwrite

    def write_a_part(fd: int, data: bytes, position: int) -> int:
        return write(fd, data[:5], position)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", write_a_part)
        journal.append({"number": 2})
    journal.append({"number": 3})
    journal.recover()  # the disk has room again
    journal.append({"number": 4})
    journal.close()
    successor = Journal(folder)
    successor.recover()
    assert (sorted(numbers(successor)), successor.dropped) == ([1, 2, 3, 4], {})
    successor.close()


def test_a_truncated_journal_does_not_block_a_flush(folder: Path, journal: Journal) -> None:
    path = leave_journal(folder, b'{"number":1}\n{"number":2}\n')
    assert journal.recover() == 2
    os.truncate(path, 0)
    assert numbers(journal) == []
    assert journal.pending == 0
    assert journal.dropped == {"truncated": 2}


# -- content and permissions ----------------------------------------------------------------------------------------


def test_journals_are_private_whatever_the_umask(folder: Path) -> None:
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


def test_a_journal_is_lines_of_json(folder: Path, journal: Journal) -> None:
    journal.append({"number": 1, "text": "zwei\nZeilen\r\u2028\x85"})
    [path] = folder.iterdir()
    [line] = path.read_bytes().rstrip(b"\0").splitlines()
    assert json.loads(line) == {"number": 1, "text": "zwei\nZeilen\r\u2028\x85"}
    assert numbers(journal) == [1]


def test_an_interrupted_append_is_not_counted(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control-C while a file is being opened: the event is not pending, so no flush waits for it."""

    def interrupted(entry: bytes, room: int) -> Segment:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(journal, "_open_segment", interrupted)
        with pytest.raises(KeyboardInterrupt):
            journal.append({"number": 1})
    assert journal.append({"number": 2})
    assert journal.pending == 1
    assert numbers(journal) == [2]


def test_nothing_is_logged_without_a_problem(journal: Journal, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for number in range(100):
        journal.append({"number": number})
    assert numbers(journal) == list(range(100))
    assert caplog.records == []


def test_many_journals_are_recovered_with_few_open_files(folder: Path, journal: Journal) -> None:
    for number in range(300):
        leave_journal(folder, f'{{"number":{number}}}\n'.encode(), f"1-{number:04}.jsonl")
    open_before = open_files()
    found: list[Any] = []
    while journal.recover():
        assert open_files() <= open_before + 64
        found += numbers(journal)
    assert sorted(found) == list(range(300))
    assert not journal.more_to_recover
    assert open_files() == open_before


def test_unfinished_files_are_removed_after_an_hour(folder: Path, journal: Journal) -> None:
    old, fresh = (leave_journal(folder, b"", f"{pid}-0123.new") for pid in (1, 2))
    os.utime(old, (1, 1))
    journal.recover()
    assert list(folder.iterdir()) == [fresh]
