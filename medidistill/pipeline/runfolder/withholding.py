"""Error lines that others may read (a terminal, cron mail, a job's log) without names of files or patients.

Errors keep such names apart (`MedidistillError.private`). What a message repeats all the same, an operating system's
above all, is found here by comparison with the input: names of the files below it, entries of an archive, and cells of
its tables. A command writes the whole into a file that its owner alone can read, and says where that is.
"""

from __future__ import annotations

import functools
import os
import re
import traceback
import zipfile
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from medidistill.config import RunConfig
from medidistill.config.fields import rules
from medidistill.errors import StoppedError, as_known, one_line
from medidistill.pipeline.runfolder.cells_of_tables import MOST_BYTES, TABLES, cells, cells_of
from medidistill.pipeline.stages import STAGES

__all__ = ["PublicError", "full_text", "input_names", "make_public", "withhold_names"]

WITHHELD = "(withheld)"
_MOST_NAMES = 2_000_000
_MOST_TABLES = 100
# words of our own messages that are common names of folders and files, or cells of tables, as well
_WORDS = {"class", "classes", "column", "columns", "copies", "copy", "data", "disk", "duplicate", "empty", "exclusion"}
_WORDS |= {"exclusions", "exclusions.csv", "file", "files", "folder", "header", "image", "images", "ingest", "input"}
_WORDS |= {"label", "labels", "labels.csv", "line", "lines", "list", "memory", "missing", "name", "names", "none"}
_WORDS |= {"number", "output", "path", "paths", "patient", "patients", "picture", "pictures", "quarantine"}
_WORDS |= {"quarantine.csv", "quarantined", "reason", "reasons", "report", "row", "rows", "run", "runs", "share"}
_WORDS |= {"source", "split", "splits", "table", "test", "train", "training", "unreadable", "usable", "val", "valid"}
_WORDS |= {"validation"}


@dataclass(frozen=True)
class PublicError:
    """An error for others' eyes, and what they do not get.

    Args:
        line: one line without names of files or patients.
        withheld: how many names were taken out of it or kept apart.
        details: the whole, for a private file; empty where `line` says all.
        exit_code: of the process.
    """

    line: str
    withheld: int
    details: str
    exit_code: int


def make_public(error: BaseException, sources: Iterable[Path], typed: Collection[str] = ()) -> PublicError:
    """Return what may be said of an error to others.

    Args:
        error: what ended a command.
        sources: files and folders of patients' data that it read.
        typed: what the user wrote on the command line; paths in it may be repeated.
    """
    known = as_known(error)
    if known is None:  # a defect: its message may quote anything
        kind = type(error).__name__
        return PublicError(f"internal error: {kind} (please report it)", 1, full_text(error), 1)
    if isinstance(known, StoppedError):
        return PublicError(str(known), 0, "", known.exit_code)
    line, found = withhold_names(" ".join(str(known).split()), sources, typed)
    withheld = found + len(known.private)
    return PublicError(line, withheld, full_text(error) if withheld else "", known.exit_code)


def full_text(error: BaseException) -> str:
    """Return all that is known of an error, for a private file: message, names, and of a defect where it is."""
    known = as_known(error)
    if known is None:
        return "".join(traceback.format_exception(error))
    return "\n".join([str(known), *known.private, ""])


def withhold_names(text: str, sources: Iterable[Path], typed: Collection[str] = ()) -> tuple[str, int]:
    """Return `text` without the names that its sources hold, and how many were taken out.

    Args:
        text: one line.
        sources: files and folders of patients' data.
        typed: what the user wrote; names in it are kept.
    """
    ours = _WORDS | _settings()
    kept = ours | {
        form for one in typed for part in re.split(r"[/=]", one) for name in _parts(part) for form in _forms(name)
    }
    folded = text.casefold()
    found = {
        form for name in input_names(sources) for form in _forms(name) if form.casefold() in folded and form not in kept
    }
    if not found:
        return text, 0
    ordered = sorted(found, key=lambda one: (len(one), one), reverse=True)
    names = "|".join(_pattern(name, exact=name.casefold() in ours) for name in ordered)
    count = 0

    def replace(match: re.Match[str]) -> str:
        nonlocal count
        count += match.lastgroup != "typed"
        return match[0] if match.lastgroup == "typed" else WITHHELD

    # a path of the command line is passed over as a whole, also where a part of it is a name
    written = {form for one in typed if "/" in one or "." in one for form in _forms(one)}
    paths = sorted(map(re.escape, written), key=len, reverse=True)
    whole = rf"(?P<typed>(?:{'|'.join(paths)})(?!\w))|{names}" if paths else names
    shown = re.sub(whole, replace, text, flags=re.IGNORECASE)
    return shown, count


def _forms(name: str) -> set[str]:
    """Return a name as it is and as messages write it: with escapes, and with a blank for a line break."""
    if name.isprintable() and "  " not in name:
        return {name}
    blank = " ".join(name.split())
    return {name, blank, one_line(name), one_line(blank)} - {""}


@functools.cache
def _settings() -> frozenset[str]:
    """Return the words that keys of settings are made of, and the stages."""

    def words(kind: Any) -> Iterator[str]:
        for name, rule in rules(kind).items():
            yield name
            if rule.is_section:
                yield from words(rule.kind)

    return frozenset([*words(RunConfig), *STAGES])


def _pattern(name: str, *, exact: bool = False) -> str:
    """Return what finds a name in a message, with the rest of a word with hyphens that it is a part of.

    Args:
        name: a name of the input.
        exact: it differs from a word of ours in case alone: only as it is written.
    """
    if len(name) > 2:
        whole = rf"(?<!\w)(?:\w+-)*{re.escape(name)}(?:-\w+)*(?!\w)"
        return f"(?-i:{whole})" if exact else whole
    # a word of two letters is also one of ours: only where it can be nothing but a name
    return rf"(?<=[/'\"]){re.escape(name)}(?=[/'\"]|$)"


def input_names(sources: Iterable[Path]) -> Iterator[str]:
    """Yield the names that patients' data hold: of files and folders, whole and without suffix, and cells of tables."""
    count = 0
    for source in sources:
        for name in _names(source):
            yield name
            count += 1
            if count > _MOST_NAMES:
                return


def _names(source: Path) -> Iterator[str]:
    if source.is_file():
        yield from _parts(source.name)
        if zipfile.is_zipfile(source) and not source.name.lower().endswith(TABLES):
            yield from _entries(source)
        else:
            yield from cells_of(source)
        return
    waiting, tables = [str(source)], 0
    while waiting:  # no recursion, and no link is followed: names of others are no names of the input
        here = waiting.pop()
        try:
            with os.scandir(here) as entries:
                listed = list(entries)
        except OSError:
            continue
        for entry in listed:
            yield from _parts(entry.name)
            if entry.is_dir(follow_symlinks=False):
                waiting.append(entry.path)
            elif entry.name.lower().endswith(TABLES) and entry.is_file(follow_symlinks=False) and tables < _MOST_TABLES:
                tables += 1
                yield from cells_of(Path(entry.path))


def _parts(name: str) -> Iterator[str]:
    stem = PurePosixPath(name).stem
    yield name
    if stem != name:
        yield stem


def _entries(source: Path) -> Iterator[str]:
    """Yield the names of the entries of an archive, and the cells of the tables in it."""
    tables = 0
    try:
        with zipfile.ZipFile(source) as archive:
            for entry in archive.infolist():
                for part in re.split(r"[/\\]", entry.filename):
                    if part:
                        yield from _parts(part)
                if entry.filename.lower().endswith(TABLES) and tables < _MOST_TABLES:
                    tables += 1
                    with archive.open(entry) as file:
                        yield from cells(file.read(MOST_BYTES), Path(entry.filename))
    except Exception:  # noqa: BLE001 (a damaged archive raises anything; what was found until then counts)
        return
