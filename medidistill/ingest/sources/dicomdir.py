"""The files that a DICOMDIR lists (PS3.3 Annex F)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pydicom
from pydicom.uid import MediaStorageDirectoryStorage

from medidistill.errors import IngestError
from medidistill.ingest.dicom_file import read_dicom_file
from medidistill.ingest.file_discovery import scan_folder
from medidistill.ingest.limits import DIRECTORY
from medidistill.ingest.silence_pydicom import silence_pydicom

__all__ = ["is_dicomdir", "listed_files"]


def is_dicomdir(path: Path) -> bool:
    """Whether a file is a DICOMDIR by content; its name plays no part."""
    try:
        with silence_pydicom():
            meta = pydicom.filereader.read_file_meta_info(path)
            return bool(meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage)
    except Exception:  # noqa: BLE001 (anything but a DICOM file raises anything)
        return False


def listed_files(directory: Path, allowed: Sequence[str] = ()) -> tuple[list[Path], list[str]]:
    """Return the files below the folder of a DICOMDIR that it lists, sorted, and the names of those that are missing.

    The records are taken as the flat sequence they are stored in, not by the offsets that chain them: a chain can
    run in a circle. Names are compared without regard to case, as discs are mounted in either.

    Args:
        directory: the DICOMDIR.
        allowed: folders outside of its own that symbolic links may lead into.

    Raises:
        IngestError: the DICOMDIR cannot be read, or lists nothing.
    """
    names: list[str] = []
    try:
        with silence_pydicom():
            listing = read_dicom_file(directory, bounds=DIRECTORY).dataset
            for record in listing.DirectoryRecordSequence:
                value = record.get("ReferencedFileID")
                if value and record.get("RecordInUseFlag") != 0:
                    names.append("/".join([value] if isinstance(value, str) else value))
    except Exception as error:  # damaged files raise anything, and the message quotes them
        raise IngestError(f"{directory}: unreadable DICOMDIR ({type(error).__name__})") from error
    if not names:
        raise IngestError(f"{directory}: lists no files")
    # only what lies below the folder can be found: an entry that leads out of it is missing
    files = scan_folder(directory.parent, allowed=allowed).files
    there = {path.relative_to(directory.parent).as_posix().casefold(): path for path in files}
    wanted = dict.fromkeys(os.path.normpath(name.replace("\\", "/")).casefold() for name in names)
    return sorted(there[name] for name in wanted if name in there), [name for name in wanted if name not in there]
