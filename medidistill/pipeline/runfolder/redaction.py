"""Messages for files that other people read: status, events and the support package.

File names, labels and table cells may name a patient, and only reading the input meets them. So what ingest
complains about is not copied but replaced by its kind, and so is a message that names a path outside the run.
The whole message goes into the run's `ingest` folder, which is for patient data; what of it may go to stderr,
`medidistill.pipeline.runfolder.withholding` decides.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from medidistill.errors import MedidistillError, ResourceError, StoppedError, as_known

__all__ = ["DETAILS", "public_message"]

DETAILS = "error.txt"  # in the ingest folder of a run
_INSIDE = re.compile(r"OUTPUT(?:/[\w.-]+)*/?")
_MEANING = {
    1: "internal error",
    2: "a setting does not fit the input",
    3: "the input data are missing, unreadable or inconsistent",
    5: "disk, memory or permission",
    6: "more files were quarantined than ingest.max_quarantine allows",
}


def public_message(error: BaseException, stage: str, folder: Path) -> str:
    """Return one line about `error` that repeats no file name, label or path outside the run.

    Args:
        error: what ended the run.
        stage: where it was; in `ingest` (or before any stage) the message itself is withheld.
        folder: the run folder, written as OUTPUT.
    """
    known: MedidistillError | None = as_known(error)
    if known is None:
        return f"internal error ({type(error).__name__}); see ingest/{DETAILS}"
    text = _without_output(" ".join(str(known).split()), folder)
    trusted = stage not in ("", "ingest") or isinstance(known, StoppedError | ResourceError)
    if trusted and "/" not in _INSIDE.sub("", text):
        return text
    return f"{_MEANING.get(known.exit_code, type(known).__name__)}; see ingest/{DETAILS}"


def _without_output(text: str, folder: Path) -> str:
    for name in sorted({str(folder), os.path.realpath(folder)}, key=len, reverse=True):
        # a bare name such as `out` is also a word: only where it is a path
        ahead = r"(?=[/\s:;,'\")]|$)" if "/" in name else r"(?=/)"
        text = re.sub(rf"(?<![\w/.-]){re.escape(name)}{ahead}|(?<=--output ){re.escape(name)}\b", "OUTPUT", text)
    return text
