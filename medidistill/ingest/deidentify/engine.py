"""One dataset in, one de-identified dataset out: a pure function of the dataset, the settings and the key."""

from __future__ import annotations

import copy
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import UID

from medidistill.errors import IngestError
from medidistill.ingest.deidentify.keys import Key
from medidistill.ingest.deidentify.pixels import tidy_pixels
from medidistill.ingest.deidentify.settings import DeidentifyConfig
from medidistill.ingest.deidentify.table import EDITION, KEPT_CHARACTERISTICS, action_of
from medidistill.ingest.deidentify.values import age_capped, conforms, dummy, empty, is_temporal, shift_date
from medidistill.ingest.deidentify.words import VOCABULARY, clean, identifying_words, scrub, split

__all__ = ["Change", "Deidentified", "deidentify"]

_PATIENT_NAME, _PATIENT_ID, _AGE = 0x00100010, 0x00100020, 0x00101010
_CODE_VALUES = (0x00080100, 0x00080119, 0x00080120)
_MARKS = frozenset({0x00120062, 0x00120063, 0x00120064, 0x00280303, 0x00080005})
_SCHEMES = frozenset({"SCT", "SRT", "SNM3", "99SDM", "DCM", "UCUM", "RADLEX", "FMA", "LN"})
_IMPLEMENTATION = UID("2.25.229474498309213166353093817341297813013")
_CODES = {
    "113100": "Basic Application Confidentiality Profile",
    "113105": "Clean Descriptors Option",
    "113106": "Retain Longitudinal Temporal Information Full Dates Option",
    "113107": "Retain Longitudinal Temporal Information Modified Dates Option",
    "113108": "Retain Patient Characteristics Option",
}


@dataclass(frozen=True)
class Change:
    """What was done to one element; its former value only as a keyed hash.

    Args:
        where: tags from the top level down, for example ``(0040,0275)[0](0040,0009)``.
        action: ``X``, ``Z``, ``D``, ``U``, ``C``, ``date``, ``time``, ``check``, ``text`` or ``site``.
        before: 16 hexadecimal digits of an HMAC of the former value.
    """

    where: str
    action: str
    before: str


@dataclass(frozen=True)
class Deidentified:
    """A de-identified dataset with fresh file meta information, and what was changed."""

    dataset: Dataset
    changes: tuple[Change, ...]
    patient: str


class _Run:
    """One file's settings, offset and words, while its datasets are walked."""

    def __init__(self, config: DeidentifyConfig, key: Key, source: Dataset) -> None:
        self.config, self.key = config, key
        self.patient = self.identity(source)
        self.offset = key.offset(self.patient)
        self.identifying = identifying_words(source)
        self.changes: list[Change] = []
        self.keep, self.remove, self.replace = config.keep_tags, config.remove_tags, config.replacements

    @staticmethod
    def identity(source: Dataset) -> str:
        """Return what stands for the patient: ID and issuer, else the study, else the image."""
        for name in ("PatientID", "StudyInstanceUID", "SOPInstanceUID"):
            if value := str(source.get(name, "") or "").strip():
                issuer = str(source.get("IssuerOfPatientID", "") or "").strip()
                return f"{value}\x1f{issuer}" if name == "PatientID" else f"{name}\x1f{value}"
        raise IngestError("neither Patient ID nor a study or instance UID: nothing tells the patient")

    def note(self, where: str, action: str, element: DataElement) -> None:
        """Record a change; of a sequence only that it changed."""
        value = "" if element.VR == "SQ" else repr(element.value)
        self.changes.append(Change(where, action, self.key.token("audit", f"{int(element.tag):08x}\x1f{value}")))

    def dataset(self, source: Dataset, prefix: str = "") -> Dataset:
        """Return the new dataset of a (nested) one."""
        target = Dataset()
        for element in source:
            where = f"{prefix}({element.tag.group:04X},{element.tag.element:04X})"
            new = self.element(element, where)
            if new is None or (element.VR != "SQ" and new.value != element.value):
                self.note(where, self.decide(element), element)
            if new is not None:
                target.add(new)
        return target

    def decide(self, element: DataElement) -> str:
        """Return the action for an element: the site's, the options', the profile's."""
        tag = int(element.tag)
        if tag in self.remove or tag in _MARKS:
            return "X"
        if tag in self.replace:
            return "site"
        if tag in self.keep or (self.config.patient_characteristics and tag in KEPT_CHARACTERISTICS):
            return "recurse" if element.VR == "SQ" else "K"
        return action_of(tag, element.VR)

    def element(self, element: DataElement, where: str) -> DataElement | None:
        """Return the new element, or None where it goes."""
        tag, vr, action = int(element.tag), element.VR, self.decide(element)
        if action == "X":
            return None
        if tag in (_PATIENT_NAME, _PATIENT_ID):
            return DataElement(tag, vr, self.key.patient(self.patient) if where.count("(") == 1 else "")
        if action == "site":
            return DataElement(tag, vr, self.replace[tag])
        if action == "recurse":
            return DataElement(tag, "SQ", self.items(element, where))
        if action == "K":
            return self.each(element, age_capped) if tag == _AGE else copy.deepcopy(element)
        if action == "Z":
            return DataElement(tag, vr, empty(vr))
        if action == "D":
            return None if vr == "SQ" or dummy(vr) is None else DataElement(tag, vr, dummy(vr))
        if action == "U":
            return self.each(element, self.uid) if vr == "UI" else None
        return self.text(element, action)

    def text(self, element: DataElement, action: str) -> DataElement | None:
        """Return an element of dates, words or checked values; None where nothing of it may stay."""
        if action in ("date", "time"):
            if self.config.dates == "retain":
                return self.each(element, lambda text: text if is_temporal(text) else "")
            if self.config.dates == "shift" and action == "date":
                return self.each(element, lambda text: shift_date(text, self.offset))
            return DataElement(element.tag, element.VR, None)
        if action == "C":
            return self.each(element, clean)
        if action == "text":
            new = self.each(element, lambda text: scrub(text, self.identifying))
            return new if new.value else None
        return copy.deepcopy(element) if self.is_checked(element) else None

    def is_checked(self, element: DataElement) -> bool:
        """Return whether each value is what the VR allows, and holds no word that may identify somebody."""
        for text in _texts(element):
            if not conforms(element.VR, text):
                return False
            words = set(split(text)) - VOCABULARY
            if element.VR == "CS" and words & self.identifying:
                return False
        return True

    def items(self, element: DataElement, where: str) -> DicomSequence:
        """Return the new items of a sequence; coded entries of private schemes are left out."""
        kept = []
        for index, item in enumerate(element.value or ()):
            if any(tag in item for tag in _CODE_VALUES) and not _standard_code(item):
                self.note(f"{where}[{index}]", "X", element)
                continue
            new = self.dataset(item, f"{where}[{index}]")
            if "CodeValue" in new and not new.get("CodeMeaning"):
                new.CodeMeaning = "removed"
            kept.append(new)
        return DicomSequence(kept)

    def each(self, element: DataElement, change: Callable[[str], str]) -> DataElement:
        """Return an element with each of its values changed."""
        new = [change(text) for text in _texts(element)]
        value: Any = new[0] if len(new) == 1 else new
        return DataElement(element.tag, element.VR, value if any(new) else None)

    def uid(self, text: str) -> str:
        """Return the new UID; those that the standard registers stay."""
        return text if not text or UID(text, 0).name != text else self.key.uid(text)


def _texts(element: DataElement) -> list[str]:
    value = element.value
    if value is None:
        return []
    return [str(one) for one in (value if isinstance(value, MultiValue | list | tuple) else [value])]


def _standard_code(item: Dataset) -> bool:
    value, scheme = str(item.get("CodeValue", "") or ""), str(item.get("CodingSchemeDesignator", "") or "")
    return scheme in _SCHEMES and re.fullmatch(r"[A-Za-z0-9]+([-.][A-Za-z0-9]+){0,3}", value) is not None


def deidentify(source: Dataset, config: DeidentifyConfig, key: Key) -> Deidentified:
    """De-identify one image by the basic profile of PS3.15 with cleaned descriptors.

    The dataset that comes in is not changed. Sequences are walked to any depth. Private elements, curves, overlays,
    and what the dictionary does not know are removed; UIDs, patient and dates become what the key makes of them.

    Args:
        source: a dataset with file meta information, as `pydicom.dcmread` gives it.
        config: options and the site's recipe.
        key: the secret that pseudonyms come from.

    Returns:
        The new dataset, ready to be written, and one `Change` an element.

    Raises:
        IngestError: nothing tells the patient, or the object has no class, instance or transfer syntax.

    Source: PS3.15 E.1 to E.3; codes of PS3.16 CID 7050.
    """
    syntax = getattr(source, "file_meta", Dataset()).get("TransferSyntaxUID")
    if syntax is None or not source.get("SOPClassUID") or not source.get("SOPInstanceUID"):
        raise IngestError("no SOP class, SOP instance or transfer syntax")
    run = _Run(config, key, source)
    target = run.dataset(source)
    _mark(target, config, key.patient(run.patient))
    tidy_pixels(source, target)

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = target.SOPClassUID
    meta.MediaStorageSOPInstanceUID = target.SOPInstanceUID
    meta.TransferSyntaxUID = UID(str(syntax))
    meta.ImplementationClassUID = _IMPLEMENTATION
    meta.ImplementationVersionName = "MEDIDISTILL"
    target.file_meta = meta
    target.preamble = b"\0" * 128
    return Deidentified(target, tuple(run.changes), key.patient(run.patient))


def _mark(target: Dataset, config: DeidentifyConfig, patient: str) -> None:
    """Say what was done: (0012,0062), (0012,0063), (0012,0064), (0028,0303)."""
    codes = ["113100", "113105"]
    codes += {"shift": ["113107"], "retain": ["113106"], "remove": []}[config.dates]
    codes += ["113108"] if config.patient_characteristics else []
    target.PatientName = target.PatientID = patient
    target.PatientIdentityRemoved = "YES"
    method = [f"medidistill {version('medidistill')}", EDITION]
    if config.remove or config.keep or config.replace:
        recipe = repr((config.remove, config.keep, config.replace))
        method.append(f"site recipe {hashlib.sha256(recipe.encode()).hexdigest()[:16]}")
    target.DeidentificationMethod = method
    target.DeidentificationMethodCodeSequence = DicomSequence(_code(value) for value in codes)
    kept = {"shift": "MODIFIED", "retain": "UNMODIFIED", "remove": "REMOVED"}
    target.LongitudinalTemporalInformationModified = kept[config.dates]


def _code(value: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", _CODES[value]
    return item
