"""A folder of DICOM files in, a folder of de-identified ones out; what is not fit to leave is only listed."""

from __future__ import annotations

import csv
import hashlib
import io
import shutil
import sys
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite
from tqdm.auto import tqdm

from medidistill.errors import ConfigError, IngestError, QuarantineError, ResourceError
from medidistill.files import translate_os_errors, write_bytes, write_text
from medidistill.ingest.deidentify.change_log import AuditLog
from medidistill.ingest.deidentify.engine import Change, deidentify, written_by_engine
from medidistill.ingest.deidentify.identifying_values import Identifiers, identifiers
from medidistill.ingest.deidentify.keys import Key
from medidistill.ingest.deidentify.labels import LabelsWritten, write_labels
from medidistill.ingest.deidentify.other_files import kind_of_other_file
from medidistill.ingest.deidentify.picture import bare_picture, foreign_chunks
from medidistill.ingest.deidentify.reading import read_as_stored, read_dicom
from medidistill.ingest.deidentify.residual import residuals
from medidistill.ingest.deidentify.screen import screen_header, screen_pixels
from medidistill.ingest.deidentify.settings import DeidentifyConfig
from medidistill.ingest.deidentify.table import EDITION
from medidistill.ingest.dicom import file_kind
from medidistill.ingest.file_discovery import Refused, relative_name, scan_folder
from medidistill.ingest.manifest import Quarantined
from medidistill.ingest.silence_pydicom import silence_pydicom
from medidistill.ingest.sources.table import read_table

__all__ = ["DeidentifyResult", "deidentify_folder", "locate"]

_STAGING = ".checking"


@dataclass(frozen=True)
class DeidentifyResult:
    """What a run did.

    Args:
        written: files in OUT, relative to it.
        quarantine: keyed names of input files, and why each was set aside.
        patients: number of patients in OUT.
        sources: the input file of each entry of `written`; it may name a patient.
        others: keyed names of what is no image, and what it is; neither read nor counted.
        labels: rows of ``OUT/images/labels.csv``; None where no table was given.
    """

    written: tuple[str, ...]
    quarantine: tuple[Quarantined, ...]
    patients: int
    sources: tuple[Path, ...] = ()
    others: tuple[Quarantined, ...] = ()
    labels: LabelsWritten | None = None


@dataclass
class _Tally:
    written: list[str] = field(default_factory=list)
    sources: list[Path] = field(default_factory=list)
    quarantine: list[Quarantined] = field(default_factory=list)
    patients: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class _Ready:
    patient: str
    changes: tuple[Change, ...]
    staged: Path
    target: str


def _name(path: Path, source: Path, key: Key) -> str:
    return key.token("file", relative_name(path, source))


def locate(source: Path, name: str, key: Key) -> Path:
    """Return the input file that a name of the quarantine list stands for. Raises `IngestError`."""
    listing = scan_folder(Path(source))
    for path in (*listing.files, *(entry.path for entry in listing.refused)):
        if _name(path, Path(source), key) == name:
            return path
    raise IngestError(f"no file in the input folder has the name {name} under this key")


def _check_folders(source: Path, output: Path) -> None:
    if not source.is_dir():
        raise IngestError(f"{source}: {'is no folder' if source.exists() else 'no such folder'}")
    if output.exists() and not output.is_dir():
        raise ConfigError(f"{output}: is a file; choose a new folder")
    if output.is_dir() and any(output.iterdir()):
        raise ConfigError(f"{output}: is not empty; choose a new folder, nothing is overwritten")
    here, there = source.resolve(), output.resolve()
    if here == there or here.is_relative_to(there) or there.is_relative_to(here):
        raise ConfigError(f"{output}: input and output must not lie in one another")


def deidentify_folder(
    source: Path,
    output: Path,
    config: DeidentifyConfig,
    key: Key,
    *,
    labels: Path | None = None,
    progress: bool = False,
) -> DeidentifyResult:
    """De-identify every image below a folder.

    ``OUT/images/<patient>/<instance>.dcm`` holds what passed the screens, the engine and the residual check, and with
    `config.pictures` ``.png`` the pixels alone of PNG and JPEG files;
    ``OUT/quarantine.csv`` names what did not, by keyed hash, with the reason; ``OUT/audit.jsonl`` is the log.
    Files in quarantine stay where they are and are not copied. One bad file never stops the run. Files that are no
    images (tables, documents, DICOMDIR, what operating systems leave behind) are neither read nor counted; the log
    names them.

    Args:
        source: folder of DICOM files, any names, any depth.
        output: a new or empty folder, not inside the source.
        config: options and the site's recipe.
        key: the secret that pseudonyms come from.
        labels: CSV of labels, as `ingest` reads it; ``OUT/images/labels.csv`` gets them by the new paths, also where
            too many files were set aside.
        progress: show a progress bar on stderr.

    Raises:
        ConfigError: a folder that cannot be used as output, or a key other than the recipe asks for.
        IngestError: no input folder, no image in it, or an unusable table of labels.
        QuarantineError: more than `config.max_quarantine` of the images were set aside; OUT holds the others.
        ResourceError: OUT cannot be written.
    """
    source, output = Path(source), Path(output)
    _check_folders(source, output)
    if config.key_fingerprint and config.key_fingerprint != key.fingerprint:
        raise ConfigError(
            f"wrong key: its fingerprint is {key.fingerprint}, the recipe asks for {config.key_fingerprint}"
        )
    images, others, refused_entries = _list_files(source, key, progress)
    if labels is not None:
        read_table(labels)  # report an unusable table before the work, not after it
    tally, staging = _Tally(), output / _STAGING
    with translate_os_errors(output):
        output.mkdir(parents=True, exist_ok=True)
        output.chmod(0o700)
        staging.mkdir(mode=0o700)
    try:
        with AuditLog(output / "audit.jsonl", key) as log, silence_pydicom():
            settings = {name: list(v) if isinstance(v, tuple) else v for name, v in vars(config).items()}
            settings["replace"] = sorted(name for name, _ in config.replace)
            log.add("start", version=version("medidistill"), table=EDITION, settings=settings, key=key.fingerprint)
            for entry in others:
                log.add("no image", source=entry.key, kind=entry.reason)
            for path in tqdm(images, desc="de-identifying", unit="file", file=sys.stderr, disable=not progress):
                _one(path, source, output, config, key, log, tally)
            for refused in refused_entries:
                _refuse(_name(refused.path, source, key), refused.reason, log, tally)
            log.close(written=len(tally.written), quarantined=len(tally.quarantine))
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    _write_quarantine(output / "quarantine.csv", tally.quarantine)
    with silence_pydicom():
        rows = None if labels is None else write_labels(labels, source, output, tally.sources, tally.written, key)
    total = len(images) + len(refused_entries)
    share = len(tally.quarantine) / total
    if share > config.max_quarantine:
        raise QuarantineError(
            f"{len(tally.quarantine)} of {total} images were quarantined ({share:.0%}; at most "
            f"{config.max_quarantine:.0%} allowed by max_quarantine): see {output / 'quarantine.csv'}"
        )
    return DeidentifyResult(
        tuple(tally.written), tuple(tally.quarantine), len(tally.patients), tuple(tally.sources), others, rows
    )


def _list_files(
    source: Path, key: Key, progress: bool
) -> tuple[list[Path], tuple[Quarantined, ...], tuple[Refused, ...]]:
    """Return the images, what is no image by keyed name, and what is not read. Raises `IngestError` without images."""
    listing = scan_folder(source)
    files = list(listing.files)
    if not files and not listing.refused:
        raise IngestError(f"{source}: holds no files")
    looked_at = tqdm(files, desc="listing", unit="file", file=sys.stderr, disable=not progress)
    kinds = {path: kind_of_other_file(path, source) for path in looked_at}
    images = [path for path in files if not kinds[path]]
    if not images and not listing.refused:
        raise IngestError(f"{source}: holds no images, but {len(files)} other files (tables, texts, reports, DICOMDIR)")
    others = tuple(Quarantined(_name(path, source, key), kinds[path]) for path in files if kinds[path])
    return images, others, listing.refused


def _one(
    path: Path, source: Path, output: Path, config: DeidentifyConfig, key: Key, log: AuditLog, tally: _Tally
) -> None:
    """Take one file through; whatever it does, the run goes on."""
    name = _name(path, source, key)
    try:
        ready = _prepare(path, name, output, config, key)
    except ResourceError:
        raise
    except IngestError as error:
        reason = str(error)
    except Exception as error:  # noqa: BLE001 (one file never stops the run; the message may quote it)
        reason = f"unreadable ({type(error).__name__})"
    else:
        target = output / ready.target
        with translate_os_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            ready.staged.replace(target)
        digest = hashlib.sha256(target.read_bytes()).hexdigest()
        changes = [[one.where, one.action, one.before] for one in ready.changes]
        log.add("written", source=name, output=ready.target, sha256=digest, changes=changes)
        tally.written.append(ready.target)
        tally.sources.append(path)
        tally.patients.add(ready.patient)
        return
    _refuse(name, reason, log, tally)


def _refuse(name: str, reason: str, log: AuditLog, tally: _Tally) -> None:
    tally.quarantine.append(Quarantined(name, reason))
    log.add("quarantined", source=name, reason=reason)


def _prepare(path: Path, name: str, output: Path, config: DeidentifyConfig, key: Key) -> _Ready:
    """Return a file that was written and checked, and its place in OUT. Raises `IngestError`."""
    if config.pictures and path.is_file() and file_kind(path) in ("png", "jpeg"):
        return _prepare_picture(path, name, output, key)
    dataset = read_dicom(path)
    screen_header(dataset, config)
    screen_pixels(dataset)
    needles = _needles(dataset, path, config)
    result = deidentify(dataset, config, key)
    target = f"images/{result.patient}/{key.token('instance', str(result.dataset.SOPInstanceUID))}.dcm"
    if (output / target).exists():
        raise IngestError("same SOP Instance UID as a file before it")
    buffer = io.BytesIO()
    dcmwrite(buffer, result.dataset, enforce_file_format=True)
    staged = output / _STAGING / f"{name}.dcm"
    write_bytes(staged, buffer.getvalue(), mode=0o600)
    if found := residuals(
        staged, needles, may_hold=[*written_by_engine(result.dataset), *(text for _, text in config.replace)]
    ):
        staged.unlink()
        raise IngestError(f"an identifying value of the input is still in {', '.join(found)}")
    return _Ready(result.patient, result.changes, staged, target)


def _needles(dataset: Dataset, path: Path, config: DeidentifyConfig) -> Identifiers:
    """Return the identifiers of a file, of its values as they were decoded and as they stand in it."""
    stored = read_as_stored(path)
    found = [
        identifiers(one, path, dates=config.dates != "retain", exempt=config.keep_tags)
        for one in (dataset, stored)
        if one is not None
    ]
    return found[0].union(*found[1:])


def _prepare_picture(path: Path, name: str, output: Path, key: Key) -> _Ready:
    """Do the same for a picture, which has no patient identifier and counts as a patient of its own."""
    data, patient = bare_picture(path), key.patient(f"file\x1f{name}")
    target = f"images/{patient}/{key.token('instance', hashlib.sha256(data).hexdigest())}.png"
    staged = output / _STAGING / f"{name}.png"
    write_bytes(staged, data, mode=0o600)
    if found := foreign_chunks(staged.read_bytes()):
        staged.unlink()
        raise IngestError(f"more than pixels would be written: {', '.join(found)}")
    return _Ready(patient, (), staged, target)


def _write_quarantine(path: Path, quarantine: list[Quarantined]) -> None:
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(("file", "reason"))
    rows.writerows((entry.key, entry.reason) for entry in quarantine)
    write_text(path, table.getvalue(), mode=0o600)
