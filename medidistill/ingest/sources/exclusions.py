"""Files that somebody decided not to use, each with a reason: a list that is kept and changed outside of runs."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from medidistill.config import IngestConfig
from medidistill.errors import IngestError, did_you_mean
from medidistill.files import write_text
from medidistill.ingest.file_discovery import inside, not_regular
from medidistill.ingest.manifest import Quarantined
from medidistill.ingest.sources.record import SourceListing
from medidistill.ingest.sources.sheet import column_word, read_sheet

__all__ = ["Exclusions", "exclusions_file", "read_exclusions", "write_exclusions"]

_COLUMNS = ("path", "reason")
_LONGEST_REASON = 500  # letters


def exclusions_file(source: Path, config: IngestConfig) -> Path | None:
    """Return the list of exclusions of a source, None where it has none.

    Args:
        source: the input; of a file, the list lies beside it.
        config: names the list, and which links are followed.

    Raises:
        IngestError: a list that was asked for is not there or no regular file, or its name leads out of the input.
    """
    folder = source if source.is_dir() else source.parent
    file = folder / config.exclusions
    if not Path(config.exclusions).is_absolute():
        try:
            inside(folder, file, config.follow_links)
        except IngestError as error:
            raise IngestError(f"{file}: {error}") from error
        if config.exclusions == IngestConfig().exclusions and not file.exists():
            return None
    if not file.is_file():
        reason = not_regular(file.stat().st_mode) if file.exists() else "no such list of exclusions"
        raise IngestError(f"{file}: {reason}; ingest.exclusions names a CSV with the columns path and reason")
    return file


def read_exclusions(file: Path) -> dict[str, str]:
    """Return path -> reason, in the order of the list; a list may have no entry.

    Raises:
        IngestError: no readable CSV, a column that is missing, an entry without path or reason, or a path listed twice.
    """
    sheet = read_sheet(file, _COLUMNS)
    words = [column_word(name) for name in sheet.header]
    for name in _COLUMNS:
        if words.count(name) != 1:
            found = f"found {words.count(name)}" if name in words else f"it has none{did_you_mean(name, words)}"
            raise IngestError(f"{file}: needs one column {name}, {found}; the first line must be path,reason")
    paths, reasons = (words.index(name) for name in _COLUMNS)
    listed: dict[str, str] = {}
    for line, cells in sheet.rows:
        path, reason = cells[paths], " ".join(cells[reasons].split())
        if not path or not reason:
            missing = "path" if not path else "reason"
            raise IngestError(f"{file}: {sheet.unit} {line} has no {missing}; each entry needs a path and a reason")
        if path in listed:
            raise IngestError(f"{file}: {sheet.unit} {line} lists a file a second time; keep one entry a file")
        listed[path] = reason[:_LONGEST_REASON]
    return listed


def write_exclusions(file: Path, listed: Mapping[str, str]) -> None:
    """Write a list, readable by its owner only: it holds names of files. Raises `ResourceError`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows((path, " ".join(reason.split())) for path, reason in listed.items())
    write_text(file, text.getvalue(), mode=0o600)


class Exclusions:
    """The entries of a list, and which of them a source has met.

    Args:
        listed: path relative to the source, or of one frame `path#2` -> reason.
    """

    def __init__(self, listed: Mapping[str, str]) -> None:
        self.listed = listed
        self._met: set[str] = set()

    @classmethod
    def of(cls, source: Path, config: IngestConfig) -> Exclusions:
        """Read the list of a source, an empty one where it has none. Raises `IngestError`."""
        file = exclusions_file(source, config) if source.exists() else None
        return cls({} if file is None else read_exclusions(file))

    def take_out(self, found: SourceListing) -> None:
        """Take what is listed out of the records, and out of the quarantine: nothing is left to settle about it."""
        found.records = [one for one in found.records if not self._excludes(one.key, found)]
        found.quarantine = [one for one in found.quarantine if not self._excludes(one.key, found)]

    def _excludes(self, key: str, found: SourceListing) -> bool:
        if key not in self.listed:
            return False
        self._met.add(key)
        found.excluded.append(Quarantined(key, self.listed[key]))
        return True

    def note(self, found: SourceListing) -> None:
        """Say how many files were taken out, and how many entries name no file; no name is given."""
        found.excluded.sort(key=lambda entry: entry.key)
        if count := len(found.excluded):
            found.notes.append(
                f"{count} file{' was' if count == 1 else 's were'} excluded by hand, with a reason (ingest.exclusions)."
            )
        if missing := len(self.listed) - len(self._met):
            found.notes.append(
                f"{missing} of {len(self.listed)} entries of the list of exclusions name{'s' if missing == 1 else ''} "
                "no file of this input."
            )
