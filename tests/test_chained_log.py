"""Append-only logs: what breaks the chain, what survives a kill, a full disk and several writers."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import stat

import pytest

from medidistill.chained_log import START, ChainedLog, read_chain
from medidistill.errors import IngestError, ResourceError


@pytest.fixture
def log(tmp_path):
    made = ChainedLog(tmp_path / "deep" / "log.jsonl")
    for number in range(4):
        made.append("released", number=number)
    return made


def test_entries_follow_one_another_and_the_file_is_private(log):
    chain = read_chain(log.path)
    assert chain.problems == ()
    assert [entry["number"] for entry in chain.entries] == [0, 1, 2, 3]
    assert chain.entries[0]["previous"] == START
    assert chain.head == log.path.read_text().splitlines()[-1].partition('"hash": "')[2][:64]
    assert chain.holds(chain.entries[1]["hash"])
    assert not chain.holds("1" * 64)
    assert stat.S_IMODE(log.path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda lines: [lines[0], lines[1].replace('"number": 1', '"number": 7'), *lines[2:]], "line 2: changed"),
        (lambda lines: [lines[0], *lines[2:]], "line 2: does not follow"),
        (lambda lines: [lines[0], lines[2], lines[1], lines[3]], "line 2: does not follow"),
        (lambda lines: [*lines, lines[3]], "line 5: does not follow"),
        (lambda lines: [*lines[:2], "[]", *lines[2:]], "line 3: changed"),
        (lambda lines: [*lines[:2], "", *lines[2:]], "line 3: changed"),
        (lambda lines: [*lines[:3], lines[3][:-5]], "line 4: changed"),
    ],
)
def test_finds_what_was_changed(log, change, problem):
    lines = log.path.read_text().splitlines()
    log.path.write_text("\n".join(change(lines)) + "\n")
    assert any(found.startswith(problem) for found in read_chain(log.path).problems)


def test_a_log_that_was_written_anew_lacks_the_hash_that_was_kept(log):
    kept = read_chain(log.path).head
    log.path.unlink()
    ChainedLog(log.path).append("released", number=0)
    chain = read_chain(log.path)
    assert chain.problems == ()
    assert not chain.holds(kept)


def test_nothing_is_appended_to_a_changed_end(log):
    text = log.path.read_text()
    log.path.write_text(text.replace('"number": 3', '"number": 9'))
    before = log.path.read_bytes()
    with pytest.raises(IngestError, match="last line was changed"):
        log.append("released")
    assert log.path.read_bytes() == before


@pytest.mark.parametrize("left", [1, 50, 150])
def test_what_a_killed_process_wrote_in_part_is_cut_off_and_said(log, left):
    content = log.path.read_bytes()
    last = content.rstrip(b"\n").rfind(b"\n") + 1
    log.path.write_bytes(content[: last + left])
    assert "cut short" in read_chain(log.path).problems[-1]
    log.append("released", number=4)
    chain = read_chain(log.path)
    assert chain.problems == ()
    assert [entry["event"] for entry in chain.entries] == ["released"] * 3 + ["repaired", "released"]
    assert chain.entries[3]["bytes"] == left


def test_a_full_disk_leaves_the_log_as_it_was(log):
    before = log.path.read_bytes()
    child = os.fork()
    if not child:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, resource.RLIM_INFINITY))
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        try:
            log.append("released", number=4)
        except ResourceError:
            os._exit(5)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 5
    assert log.path.read_bytes() == before


def _append(path, start):
    for number in range(20):
        ChainedLog(path).append("released", number=start + number)


def test_several_processes_append_to_one_chain(tmp_path):
    path = tmp_path / "log.jsonl"
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_append, args=(path, 100 * number)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    chain = read_chain(path)
    assert chain.problems == ()
    assert len(chain.entries) == 80
    assert len({json.dumps(entry["number"]) for entry in chain.entries}) == 80


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_no_log_is_refused_by_name(tmp_path, content):
    path = tmp_path / "log.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(IngestError, match=r"log\.jsonl: "):
        read_chain(path)
