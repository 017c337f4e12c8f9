"""Read many images, in parallel where that pays off; a crash of a decoder costs one file."""

from __future__ import annotations

import hashlib
import os
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from medidistill.child_processes import begin_child, child_context, is_ahead
from medidistill.errors import IngestError, ResourceError
from medidistill.files import sha256_file
from medidistill.ingest.dicom import address
from medidistill.ingest.sources.record import Record
from medidistill.ingest.transforms import Loader
from medidistill.machine import available_cores
from medidistill.networks import raise_malloc_thresholds

__all__ = ["LoadedImage", "load_images", "worker_count"]

_PER_WORKER = 1000  # a worker takes seconds to start: fewer files than this are read sooner without it
_PER_WORKER_AHEAD = 250  # the same where the imports of workers began ahead
_MOST_WORKERS = 16
_CHUNK = 16
_AHEAD = 3  # chunks a worker that wait for it: memory does not grow with the number of files
_NOT_STARTED = (OSError, EOFError)  # what the start of a process raises where there is no memory or number for it
_SETTLED = 10 * 10**9  # ns after which a further write gets another time, also by the clock of a file server
_CRASHED = "unreadable (the decoder crashed, or ran out of memory)"


@dataclass(frozen=True)
class LoadedImage:
    """One image as read from its file.

    Args:
        image: (1, S, S) float32 in [0, 1].
        width: columns in the file.
        height: rows in the file.
        sha256: of the file, with the frame where there are several.
        pixels: digest of the rendered pixels.
        difference_hash: 256 bits, hexadecimal.
        fine: see `medidistill.ingest.examine.fine_structure`.
        contrast: 99th less 1st percentile of the intensities.
        clipped: the larger share of black or white pixels.
        view: of the header, else empty.
        body_part: `other` where the header gives another part than the chest, else empty.
        shown_by: the attribute that decided on brightness and contrast, else empty.
        notices: what was assumed or left unused on reading, see `medidistill.ingest.notices`.
    """

    image: NDArray[np.float32]
    width: int
    height: int
    sha256: str
    pixels: str
    difference_hash: str
    fine: bytes
    contrast: float
    clipped: float
    view: str
    body_part: str
    shown_by: str = ""
    notices: Sequence[str] = ()


_Task = tuple[str, int | None]


def worker_count(files: int) -> int:
    """Return the fastest number of processes for `files` files: one for a small source, at most one a CPU."""
    each = _PER_WORKER_AHEAD if is_ahead() else _PER_WORKER
    return max(1, min(available_cores(), files // each, _MOST_WORKERS))


def load_images(
    records: Sequence[Record], image_size: int, cache: str, folder: Path | None, workers: int
) -> Iterator[LoadedImage | str]:
    """Yield for each record, in order, its image or the reason why it cannot be read.

    Args:
        records: what to read.
        image_size: rows and columns of the result.
        cache: `memory` or `disk`, see `Loader`.
        folder: where the disk cache goes.
        workers: processes; 1: this one.

    Raises:
        ConfigError: a disk cache without a folder.
        ResourceError: the cache cannot be written.
    """
    tasks: list[_Task] = [(str(record.path), record.frame) for record in records]
    reader = _Reader(image_size, cache, folder)
    if workers > 1:
        yield from _in_parallel(tasks, reader, workers)
    else:
        for task in tasks:
            yield reader.read(task)


class _Reader:
    def __init__(self, image_size: int, cache: str, folder: Path | None) -> None:
        self.settings = (image_size, cache, folder)
        self.loader = Loader(image_size, cache, folder)

    def read(self, task: _Task) -> LoadedImage | str:
        path, frame = Path(task[0]), task[1]
        try:
            before = _state(path)
            content = sha256 = sha256_file(path)
            if frame is not None:
                sha256 = hashlib.sha256(f"{content} frame {frame}".encode()).hexdigest()
            item = self.loader(address(path, frame), sha256)
            if _may_have_changed(path, before) and sha256_file(path) != content:
                return "changed while it was read"
        except IngestError as error:
            return str(error)
        except OSError as error:
            return f"unreadable ({error.strerror})"
        measured = ("width", "height", "pixels", "fine", "contrast", "clipped")
        described = ("view", "body_part", "shown_by", "notices")
        return LoadedImage(
            image=item["image"].numpy(),
            sha256=sha256,
            difference_hash=item["outline"],
            **{name: item[name] for name in (*measured, *described)},
        )


def _state(path: Path) -> tuple[int, ...]:
    """Return what a write to a file changes; opening it first makes a network file system ask its server."""
    with open(path, "rb") as file:
        found = os.fstat(file.fileno())
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _may_have_changed(path: Path, before: tuple[int, ...]) -> bool:
    """Whether a file's content must be compared: its state is another, or so young that a second write may not show."""
    return _state(path) != before or max(before[3:]) > time.time_ns() - _SETTLED


_worker: list[_Reader] = []  # the reader of this worker process


def _start(environment: Mapping[str, str], image_size: int, cache: str, folder: Path | None) -> None:
    begin_child(environment)
    torch.set_num_threads(1)
    raise_malloc_thresholds()  # one image after the other: what is freed fits the next
    _worker.append(_Reader(image_size, cache, folder))


def _read_chunk(tasks: Sequence[_Task]) -> list[LoadedImage | str]:
    return [_worker[0].read(task) for task in tasks]


def _pool(reader: _Reader, workers: int) -> ProcessPoolExecutor:
    settings = (dict(os.environ), *reader.settings)
    return ProcessPoolExecutor(workers, mp_context=child_context(__name__), initializer=_start, initargs=settings)


def _submit(pool: ProcessPoolExecutor, tasks: Sequence[_Task]) -> Future[list[LoadedImage | str]]:
    try:
        return pool.submit(_read_chunk, tasks)
    except (BrokenProcessPool, *_NOT_STARTED) as error:  # it broke since the last result
        failed: Future[list[LoadedImage | str]] = Future()
        failed.set_exception(BrokenProcessPool(str(error)))
        return failed


def _in_parallel(tasks: Sequence[_Task], reader: _Reader, workers: int) -> Iterator[LoadedImage | str]:
    chunks = deque(tasks[start : start + _CHUNK] for start in range(0, len(tasks), _CHUNK))
    waiting: deque[tuple[Sequence[_Task], Future[list[LoadedImage | str]]]] = deque()
    pool = _pool(reader, workers)
    try:
        try:
            pool.submit(os.getpid).result()
        except (BrokenProcessPool, *_NOT_STARTED):  # none can start here, as in a script without a `__main__` guard
            yield from map(reader.read, tasks)
            return
        while chunks or waiting:
            while chunks and len(waiting) < _AHEAD * workers:
                chunk = chunks.popleft()
                waiting.append((chunk, _submit(pool, chunk)))
            chunk, future = waiting.popleft()
            try:
                yield from future.result()
            except BrokenProcessPool:
                # some chunk under way broke it: read the first alone, file by file, and the others once more
                chunks.extendleft(other for other, _ in reversed(waiting))
                waiting.clear()
                pool.shutdown(wait=False, cancel_futures=True)
                yield from _one_by_one(chunk, reader)
                pool = _pool(reader, workers)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _one_by_one(tasks: Sequence[_Task], reader: _Reader) -> Iterator[LoadedImage | str]:
    """Read files one at a time in a process that any of them may crash."""
    pool = _pool(reader, 1)
    try:
        for task in tasks:
            try:
                yield pool.submit(_read_chunk, [task]).result()[0]
            except BrokenProcessPool:
                pool.shutdown(wait=False, cancel_futures=True)
                pool = _pool(reader, 1)
                yield _CRASHED
            except _NOT_STARTED as error:
                raise ResourceError(
                    f"a process that reads images cannot be started ({error}); use threads: 1"
                ) from error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
