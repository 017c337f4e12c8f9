"""Messages for files that other people read: status, events and the support package.

File names, labels and table cells may name a patient, and only reading images meets them. Images are read in more than
one stage: a test set from elsewhere is read by the evaluation. So what was raised while images or bundles of users were
read is not copied but replaced by its kind, whatever the stage, and so is a message that names a path outside the run.
Class names, which other stages may quote, are taken out. The whole message goes into the run's `ingest` folder, which
is for patient data; what of it may go to stderr, `medidistill.pipeline.runfolder.withholding` decides.
"""

from __future__ import annotations

import os
import re
import traceback
from collections.abc import Iterator
from pathlib import Path

from medidistill.errors import (
    IngestError,
    MedidistillError,
    PrivacyGateError,
    QuarantineError,
    ResourceError,
    StoppedError,
    as_known,
)
from medidistill.record import RunRecord

__all__ = ["DETAILS", "public_message"]

DETAILS = "error.txt"  # in the ingest folder of a run
_INSIDE = re.compile(r"OUTPUT(?:/[\w.-]+)*/?")
_UNPACKED = re.compile(r"OUTPUT/ingest/(?:external/)?unpacked/")  # below it lie the names that an archive gave
# who reads what users name: X-rays with their labels, and bundles from elsewhere
_READERS = re.compile(r"medidistill\.(?:ingest|pipeline\.comparison\.(?:external|rivals))(?:\.|$)")
_WITHHELD = "(withheld)"
_MEANING = {
    1: "internal error",
    2: "a setting does not fit the input",
    3: "the input data are missing, unreadable or inconsistent",
    4: "the privacy gate refused the release",
    5: "disk, memory or permission",
    6: "more files were quarantined than ingest.max_quarantine allows",
}


def public_message(error: BaseException, stage: str, folder: Path) -> str:
    """Return one line about `error` that repeats no file name, label or path outside the run.

    Args:
        error: what ended the run, with the traceback that it was caught with.
        stage: where it was; in `ingest` (or before any stage) the message itself is withheld, and in any other where
            it was raised by what reads users' images or bundles.
        folder: the run folder, written as OUTPUT; its record names the classes.
    """
    known: MedidistillError | None = as_known(error)
    if known is None:
        return f"internal error ({type(error).__name__}); see ingest/{DETAILS}"
    text = _without_output(" ".join(str(known).split()), folder)
    of_the_run = not _UNPACKED.search(text) and "/" not in _INSIDE.sub("", text) and not _names_bare_file(error)
    if of_the_run and _trusted(error, known, stage, text):
        return _without_classes(text, folder)
    return f"{_MEANING.get(known.exit_code, type(known).__name__)}; see ingest/{DETAILS}"


def _trusted(error: BaseException, known: MedidistillError, stage: str, text: str) -> bool:
    """Whether a message can hold nothing that was read from images, labels or bundles of users."""
    # the gate tells figures and names of rules alone, whatever command asked it
    refused = isinstance(known, PrivacyGateError) and text.startswith("the privacy gate")
    if refused or isinstance(known, StoppedError | ResourceError):
        return True
    if stage in ("", "ingest") or any(map(_raised_by_reader, _chain(error))):
        return False
    # an error that came here without its traceback, from another process: about a file of the run or not at all
    return not isinstance(known, IngestError | QuarantineError) or text.startswith("OUTPUT/")


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those that it was raised from."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__


def _raised_by_reader(error: BaseException) -> bool:
    frames = traceback.walk_tb(error.__traceback__)
    return any(_READERS.match(str(frame.f_globals.get("__name__", ""))) for frame, _ in frames)


def _names_bare_file(error: BaseException) -> bool:
    """Whether the system complains of a file by its name alone, as below an input that was given as `.`."""
    files = (one.filename for one in _chain(error) if isinstance(one, OSError))
    return any(isinstance(file, str | bytes) and "/" not in os.fsdecode(file) for file in files)


def _without_classes(text: str, folder: Path) -> str:
    """Return `text` without the names of the run's classes: they are labels, and those of folders may name patients."""
    try:
        counts = RunRecord.load(folder / "record.json").stages.get("ingest", {}).get("images", {})
        names = {form for split in counts.values() for name in split for form in (name, repr(name)[1:-1]) if form}
    except (MedidistillError, OSError, AttributeError):
        return text  # no record, or a damaged one, which is what the message is about
    if not names:
        return text
    # a name of two letters is also a word or a number: only where it is quoted
    whole = "|".join(
        rf"(?<!\w){re.escape(name)}(?!\w)" if len(name) > 2 else rf"(?<=['\"]){re.escape(name)}(?=['\"])"
        for name in sorted(names, key=lambda one: (-len(one), one))
    )
    shown, count = re.subn(whole, _WITHHELD, text)
    return f"{shown}; see ingest/{DETAILS}" if count else text


def _without_output(text: str, folder: Path) -> str:
    for name in sorted({str(folder), os.path.realpath(folder)}, key=len, reverse=True):
        # a bare name such as `out` is also a word: only where it is a path
        ahead = r"(?=[/\s:;,'\")]|$)" if "/" in name else r"(?=/)"
        text = re.sub(rf"(?<![\w/.-]){re.escape(name)}{ahead}|(?<=--output ){re.escape(name)}\b", "OUTPUT", text)
    return text
