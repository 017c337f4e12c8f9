"""The independent check: what the input's identifying elements held must be nowhere in the written file.

It shares no rule with the engine. It collects values of its own list from the input, reads the output back
from the disk, and searches every value at every depth and the raw bytes, in the encodings that names come in.
"""

from __future__ import annotations

import io
import re
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path

import pydicom
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import UID

from medidistill.ingest.deidentify.words import VOCABULARY

__all__ = ["identifiers", "residuals"]

# whole values count; words of four letters and more of the second group count too
_WHOLE = """
    AccessionNumber AdmissionID DetectorID DeviceSerialNumber FillerOrderNumberImagingServiceRequest
    IssuerOfPatientID ReceivingApplicationEntityTitle SendingApplicationEntityTitle SourceApplicationEntityTitle
    MedicalRecordLocator OtherPatientIDs PatientID PatientTelephoneNumbers PerformedProcedureStepID
    PlacerOrderNumberImagingServiceRequest RequestedProcedureID ScheduledProcedureStepID ServiceEpisodeID StudyID
    StationName PlateID CassetteID GeneratorID ReferringPhysicianTelephoneNumbers InsurancePlanIdentification
    ClinicalTrialSubjectID ClinicalTrialSubjectReadingID SpecimenAccessionNumber
"""
_WORDS = """
    CurrentPatientLocation InstitutionAddress InstitutionName InstitutionalDepartmentName PatientAddress
    PatientInstitutionResidence PersonAddress PersonTelephoneNumbers ReferringPhysicianAddress RequestingService
    ResponsibleOrganization VerifyingOrganization
"""
_WHOLE_TAGS = frozenset(map(tag_for_keyword, f"{_WHOLE} {_WORDS}".split()))
_WORD_TAGS = frozenset(map(tag_for_keyword, _WORDS.split()))
_BIRTH_DATE = 0x00100030
_CLASS_UIDS = frozenset(
    map(tag_for_keyword, ("SOPClassUID", "ReferencedSOPClassUID", "MediaStorageSOPClassUID", "ImplementationClassUID"))
)
_NOBODY = frozenset({"anonymous", "anonymized", "removed", "unknown", "none", "test", "null", "patient", "name", "yes"})
_ENCODINGS = ("utf-8", "latin-1", "utf-16-le", "utf-16-be", "cp1251", "shift_jis", "iso2022_jp", "gb18030", "euc_kr")
_MIN_RAW = 5


def _fold(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text.casefold())
    return "".join(c for c in plain if not unicodedata.combining(c)).strip()


def _texts(element: DataElement) -> list[str]:
    value = element.value
    if value is None or element.VR == "SQ":
        return []
    if isinstance(value, bytes):
        return [value.decode(name, "ignore") for name in ("utf-8", "latin-1", "utf-16-le")]
    return [str(one) for one in (value if isinstance(value, MultiValue | list | tuple) else [value])]


def _name_parts(text: str) -> Iterator[str]:
    for group in re.split(r"[=\\]", text):
        parts = [part for part in re.split(r"[\^\s,.]+", group) if part]
        yield from parts
        if len(parts) > 1:
            yield from ("^".join(parts), " ".join(parts), "".join(parts))


def _dates(text: str) -> Iterator[str]:
    if found := re.match(r"(\d{4})[.-]?(\d\d)[.-]?(\d\d)", text.strip()):
        year, month, day = found.groups()
        yield from (f"{year}{month}{day}", f"{year}-{month}-{day}", f"{day}.{month}.{year}", f"{day}/{month}/{year}")
        yield from (f"{month}/{day}/{year}", f"{month}.{day}.{year}", f"{day}{month}{year}")


def _found(element: DataElement, dates: bool) -> Iterator[str]:
    tag = int(element.tag)
    for text in _texts(element):
        if element.VR == "PN":
            yield from _name_parts(text)
        elif element.VR in ("DA", "DT") and (dates or tag == _BIRTH_DATE):
            yield from _dates(text)
        elif element.VR == "UI" and tag not in _CLASS_UIDS and UID(text, 0).name == text:
            yield text
        elif tag in _WHOLE_TAGS:
            yield text
            if tag in _WORD_TAGS:
                yield from (word for word in re.split(r"[\W_]+", text) if len(word) >= 4)


def identifiers(source: Dataset, path: Path, *, dates: bool = True, exempt: Iterable[int] = ()) -> frozenset[str]:
    """Return what must not come back: folded values of the input's identifying elements, and its file's name.

    Args:
        source: the input, before the engine saw it.
        path: where it lay; a name of six characters and more counts.
        dates: whether dates other than the birth date count.
        exempt: tags that the site keeps on purpose; names count nevertheless.
    """
    left_out = set(exempt)
    found: set[str] = {path.stem} if len(path.stem) >= 6 else set()
    for element in [*getattr(source, "file_meta", Dataset()), *source.iterall()]:
        if int(element.tag) not in left_out or element.VR == "PN":
            found.update(_found(element, dates))
    # as written too: the raw search knows nothing of accents
    return frozenset(form for text in found for form in (_fold(text), text.strip()) if _telling(_fold(text)))


def _telling(text: str) -> bool:
    if text in _NOBODY or text in VOCABULARY or not text.strip("0 .-"):
        return False
    return len(text) >= (3 if text.isascii() and not text.isdigit() else 4 if text.isascii() else 2)


def _pattern(needles: Iterable[str]) -> re.Pattern[str] | None:
    """Return one expression for all: short ones as whole words, numbers not inside longer numbers."""
    parts = []
    for needle in sorted(needles):
        literal = re.escape(needle)
        if needle.isascii() and len(needle) < 5:
            literal = rf"(?<![^\W_]){literal}(?![^\W_])"
        elif needle.isdigit():
            literal = rf"(?<!\d){literal}(?!\d)"
        parts.append(literal)
    return re.compile("|".join(parts)) if parts else None


def residuals(path: Path, needles: frozenset[str], *, may_hold: Iterable[str] = ()) -> list[str]:
    """Read a written file again and return where a needle was found; empty: nowhere.

    Args:
        path: the written file.
        needles: from `identifiers`.
        may_hold: texts that belong there although a needle may be in them, such as the pseudonym.

    Returns:
        Tags such as ``(0008,103E)``, ``file meta``, ``preamble`` or ``bytes``; never a value.
    """
    data = Path(path).read_bytes()
    dataset = pydicom.dcmread(io.BytesIO(data))
    pattern, allowed = _pattern(needles), {_fold(text) for text in may_hold}
    hits: list[str] = []
    if pattern is None:
        return hits
    for element in [*dataset.file_meta, *dataset.iterall()]:
        place = "file meta" if element.tag.group == 2 else f"({element.tag.group:04X},{element.tag.element:04X})"
        if element.tag == 0x7FE00010:
            continue  # binary: the raw search below
        for text in _texts(element):
            folded = _fold(text)
            if folded in allowed or (element.VR in ("DS", "IS") and len(folded) < 6):
                continue
            if pattern.search(folded):
                hits.append(place)
    if any(data[:128]):
        hits.append("preamble")
    if _in_bytes(data, needles):
        hits.append("bytes")
    return list(dict.fromkeys(hits))


def _in_bytes(data: bytes, needles: frozenset[str]) -> bool:
    """Return whether the raw bytes hold a needle of five bytes and more, pixels and comments of codecs included."""
    lower = data.lower()
    for needle in needles:
        for encoding in _ENCODINGS:
            try:
                raw = needle.encode(encoding)
            except UnicodeEncodeError:
                continue
            if len(raw) < _MIN_RAW or raw.lower() not in lower:
                continue
            # digits fill UIDs: a number counts where no longer number holds it
            if not needle.isdigit() or re.search(rb"(?<!\d)" + re.escape(raw) + rb"(?!\d)", data):
                return True
    return False
