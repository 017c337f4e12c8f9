"""Files beside the images of a folder: tables, reports, files left by operating systems.

Such files are not read, not copied and not counted: a label table beside nine images is not a tenth image that failed.
"""

from __future__ import annotations

from pathlib import Path

from medidistill.ingest.dicom import file_kind
from medidistill.ingest.other_objects import kind_of_object

__all__ = ["kind_of_other_file"]

_SYSTEM_FILES = frozenset({".ds_store", ".localized", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"})
_SYSTEM_FOLDERS = frozenset(
    {
        *("__macosx", ".spotlight-v100", ".trashes", ".fseventsd", ".temporaryitems", "$recycle.bin", "@eadir"),
        *("system volume information", "lost+found", ".git"),
    }
)
_KINDS = {
    "table": "csv tsv xls xlsx xlsm ods parquet db sqlite",
    "text": "txt md rst rtf json jsonl yaml yml xml html htm pdf doc docx odt ppt pptx log ini cfg conf toml",
    "archive": "zip tar gz tgz bz2 xz 7z rar",
    "checksum or signature": "md5 sha1 sha256 sha512 sig asc",
    "program": "exe dll msi bat cmd ps1 sh py js css jar inf lnk url app so dylib class",
}
_BY_SUFFIX = {suffix: kind for kind, suffixes in _KINDS.items() for suffix in suffixes.split()}


def kind_of_other_file(path: Path, source: Path) -> str:
    """Return what a file is that is no image, in a word or two; an empty text for one that may be an image.

    The content decides first: a DICOM, PNG or JPEG file is an image whatever it is called, but for DICOM objects that
    hold none (`medidistill.ingest.other_objects`). An empty file, a file that cannot be read and one of an unknown name
    may have been an image, and count as one.

    Args:
        path: the file.
        source: the folder that is read; only folders below it determine what a file is.
    """
    named = _by_name(path, source)
    try:
        kind = file_kind(path) if path.is_file() else ""
        if kind == "dicom":
            return kind_of_object(path)
    except OSError:
        return named
    return "" if kind else named


def _by_name(path: Path, source: Path) -> str:
    name = path.name.casefold()
    folders = {part.casefold() for part in path.relative_to(source).parts[:-1]}
    if name in _SYSTEM_FILES or name.startswith("._") or folders & _SYSTEM_FOLDERS:
        return "left by an operating system"
    if name == "dicomdir":
        return "DICOMDIR"
    return _BY_SUFFIX.get(path.suffix.casefold().removeprefix("."), "")
