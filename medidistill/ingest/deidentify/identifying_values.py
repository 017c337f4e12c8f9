"""Identifying values of a file: they must occur nowhere in what is written.

The list of elements is this module's own: the engine's table has no part in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.uid import UID

from medidistill.ingest.deidentify.elements import Element, walk
from medidistill.ingest.deidentify.spelling import decodings, fold, parts_of_name, spellings, words
from medidistill.ingest.deidentify.words import VOCABULARY

__all__ = ["Identifiers", "identifiers"]

# whole values count; words of four letters and more of the second group count too
_WHOLE = """
    AccessionNumber AdmissionID BarcodeValue CassetteID ClinicalTrialSubjectID ClinicalTrialSubjectReadingID
    ContainerIdentifier DetectorID DeviceSerialNumber FillerOrderNumberImagingServiceRequest GantryID GeneratorID
    InsurancePlanIdentification IssuerOfAdmissionID IssuerOfPatientID MedicalRecordLocator OtherPatientIDs
    PatientID PerformedProcedureStepID PerformedStationName PlacerOrderNumberImagingServiceRequest PlateID
    ReceivingApplicationEntityTitle RequestedProcedureID ScheduledProcedureStepID ScheduledStationName
    SendingApplicationEntityTitle ServiceEpisodeID SourceApplicationEntityTitle SpecimenAccessionNumber
    SpecimenIdentifier StationName StudyID UniqueDeviceIdentifier XRaySourceID
"""
_WORDS = """
    CurrentPatientLocation InstitutionAddress InstitutionName InstitutionalDepartmentName PatientAddress
    PatientInstitutionResidence PerformedLocation PersonAddress PersonTelecomInformation PatientTelecomInformation
    ReferringPhysicianAddress RequestingService ResponsibleOrganization ScheduledProcedureStepLocation
    ScheduledPatientInstitutionResidence VerifyingOrganization
"""
_PHONES = """
    PatientTelephoneNumbers PersonTelephoneNumbers ReferringPhysicianTelephoneNumbers OrderCallbackPhoneNumber
    PatientTelecomInformation PersonTelecomInformation
"""
_WHOLE_TAGS = frozenset(map(tag_for_keyword, f"{_WHOLE} {_WORDS} {_PHONES}".split()))
_WORD_TAGS = frozenset(map(tag_for_keyword, _WORDS.split()))
_PHONE_TAGS = frozenset(map(tag_for_keyword, _PHONES.split()))
_BIRTH_DATE = 0x00100030
_PIXEL_DATA = 0x7FE00010
_CLASS_UIDS = frozenset(
    map(tag_for_keyword, ("SOPClassUID", "ReferencedSOPClassUID", "MediaStorageSOPClassUID", "ImplementationClassUID"))
)
_PLACEHOLDERS = frozenset(
    {"anonymous", "anonymized", "removed", "unknown", "none", "test", "null", "patient", "name", "yes"}
)
# parts of names that thousands share, and that stand in any text
_PARTICLES = """
    al ap ben bin da dal de del der des di dipl do dos dr du el frau herr ii iii im in iv jr la le md med miss mr mrs ms
    of phd prof sir sr st te ten the to und van vom von y zu zum zur
"""
_TITLES = frozenset(_PARTICLES.split())
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DATE = re.compile(r"(\d{4})[.-]?(\d\d)[.-]?(\d\d)")
_LEAST_DIGITS = 4


@dataclass(frozen=True)
class Identifiers:
    """The values of one input file.

    Args:
        texts: folded, in every spelling. How each is searched depends on what it is: `medidistill.ingest.deidentify.
            residual` says how.
        written: the same as the input writes them, for the search among bytes of other character sets.
        phones: digits that count inside longer numbers too: country and trunk codes come and go.
        raw: bytes of names and numbers beyond ASCII as they stand in the input, whatever they mean.
    """

    texts: frozenset[str] = frozenset()
    written: frozenset[str] = frozenset()
    phones: frozenset[str] = frozenset()
    raw: frozenset[bytes] = frozenset()

    def __contains__(self, text: str) -> bool:
        return text in self.texts

    def union(self, *others: Identifiers) -> Identifiers:
        """Return the values of several readings of a file."""
        every = (self, *others)
        return Identifiers(
            frozenset().union(*(one.texts for one in every)),
            frozenset().union(*(one.written for one in every)),
            frozenset().union(*(one.phones for one in every)),
            frozenset().union(*(one.raw for one in every)),
        )


@dataclass
class _Collected:
    texts: set[str] = field(default_factory=set)
    written: set[str] = field(default_factory=set)
    phones: set[str] = field(default_factory=set)
    raw: set[bytes] = field(default_factory=set)

    def add(self, text: str, *, of_name: bool = False) -> None:
        """Add a value in all of its spellings, unless it is uninformative."""
        text = text.strip(" \0")
        if _tells(fold(text), of_name):
            self.texts.update(one for one in spellings(text) if _tells(one, of_name))
            self.written.add(text)


def _tells(text: str, of_name: bool) -> bool:
    """Return whether a folded text may identify a person."""
    if text in _PLACEHOLDERS or not text.strip("0 .-"):
        return False
    if text.isdigit():
        return len(text) >= _LEAST_DIGITS
    if of_name:
        return len(text) >= 2 and text not in _TITLES
    return not VOCABULARY.issuperset(words(text)) and len(text) >= (3 if text.isascii() else 2)


def _numbers(text: str) -> Iterator[str]:
    """Yield what remains of a number when its separators go, and the long runs of digits in it."""
    plain = re.sub(r"[\s./_-]+", "", text)
    if plain != text and len(plain) >= 6 and any(map(str.isdigit, plain)):
        yield plain
    yield from re.findall(r"\d{6,}", text)


def _dates(text: str) -> Iterator[str]:
    if not (found := _DATE.match(text.strip())):
        return
    year, month, day = found.groups()
    for joint in ("", "-", ".", "/", " "):
        yield from (joint.join(one) for one in ((year, month, day), (day, month, year), (month, day, year)))
    for joint in ("-", ".", "/"):
        yield from (joint.join(one) for one in ((day, month, year[2:]), (month, day, year[2:])))
        yield joint.join((str(int(day)), str(int(month)), year))
    if 1 <= int(month) <= 12:
        name = _MONTHS[int(month) - 1]
        yield from (f"{joint}".join((day, name, year)) for joint in ("-", " ", ""))
        yield from (f"{int(day)} {name} {year}", f"{name} {int(day)}, {year}")


def _phones(text: str) -> Iterator[str]:
    digits = re.sub(r"\D", "", text).lstrip("0")
    if len(digits) >= 6:
        yield digits[-9:]


def _collect(element: Element, dates: bool, found: _Collected) -> None:
    tag, kinds = element.tag, {element.vr, *element.known_vr.split(" or ")}
    is_name = "PN" in kinds
    if not (is_name or kinds & {"DA", "DT", "UI", "AE"} or tag in _WHOLE_TAGS):
        return
    if is_name or tag in _WHOLE_TAGS:
        found.raw.update(_beyond_ascii(element.raw))
    for decoded in decodings(element.raw, element.charset):
        if is_name:
            for part in parts_of_name(decoded):
                found.add(part, of_name=True)
            continue
        for text in decoded.split("\\"):
            if kinds & {"DA", "DT"}:
                if dates or tag == _BIRTH_DATE:
                    found.texts.update(_dates(text))
            elif "UI" in kinds:
                if tag not in _CLASS_UIDS and UID(text.strip("\0 "), 0).name == text.strip("\0 "):
                    found.add(text)
            else:
                _collect_text(tag, text, found)


def _collect_text(tag: int, text: str, found: _Collected) -> None:
    found.add(text)
    if tag in _PHONE_TAGS:
        found.phones.update(_phones(text))
    if tag in _WORD_TAGS:
        for word in re.split(r"[\W_]+", text):
            if len(word) >= 4:
                found.add(word)
    else:
        for number in _numbers(text):
            found.add(number)


def _beyond_ascii(raw: bytes) -> Iterator[bytes]:
    """Yield the components of a value that no reading as ASCII finds again."""
    for part in re.split(rb"[\^=\\]", raw.strip(b" \0")):
        if not part.isascii() or b"\x1b" in part:
            yield part


def identifiers(source: Dataset, path: Path, *, dates: bool = True, exempt: Iterable[int] = ()) -> Identifiers:
    """Return what must not come back: names, numbers, dates, places and UIDs of the input, and its file's name.

    Args:
        source: the input, before the engine saw it; one whose values were not decoded yet gives its bytes as well.
        path: where it lay; a name of six characters and more counts.
        dates: whether dates other than the birth date count.
        exempt: tags that the site keeps on purpose; names count nevertheless.
    """
    left_out, found = set(exempt), _Collected()
    if len(path.stem) >= 6:
        found.add(path.stem)
    for dataset in (getattr(source, "file_meta", Dataset()), source):
        for element in walk(dataset):
            if element.tag == _PIXEL_DATA or (element.tag in left_out and "PN" not in (element.vr, element.known_vr)):
                continue
            _collect(element, dates, found)
    return Identifiers(frozenset(found.texts), frozenset(found.written), frozenset(found.phones), frozenset(found.raw))
