"""One dataset in, one de-identified dataset out: a pure function of the dataset, the settings and the key."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from pydicom.datadict import dictionary_description, dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence as DicomSequence
from pydicom.tag import Tag
from pydicom.uid import UID

from medidistill.errors import IngestError
from medidistill.ingest.deidentify.attributes import DISPLAY, NUMBERS, RENDERING, number_that_stays, term_that_stays
from medidistill.ingest.deidentify.codes import CODED, code_that_stays
from medidistill.ingest.deidentify.equipment import equipment_that_stays
from medidistill.ingest.deidentify.findings import carry_findings
from medidistill.ingest.deidentify.keys import Key
from medidistill.ingest.deidentify.lookup_tables import trim_lookup_tables
from medidistill.ingest.deidentify.patients import identity
from medidistill.ingest.deidentify.pixels import write_pixels
from medidistill.ingest.deidentify.settings import DeidentifyConfig
from medidistill.ingest.deidentify.table import EDITION, KEPT_CHARACTERISTICS, action_of, profile, value_action
from medidistill.ingest.deidentify.values import cap_age, dummy, empty, shift_date, temporal
from medidistill.ingest.deidentify.words import clean, identifying_words

__all__ = ["Change", "Deidentified", "deidentify", "written_by_engine"]

_PATIENT_NAME, _PATIENT_ID, _AGE, _PIXEL_DATA = 0x00100010, 0x00100020, 0x00101010, 0x7FE00010
_LUT_SEQUENCES = ("(0028,3000)", "(0028,3010)")  # Modality LUT, VOI LUT
_SHORT_TEXT = 16  # characters of a DS or CS (PS3.5 table 6.2-1)
_NO_FREE_TEXT = frozenset({"DA", "DT", "TM", "AS", "IS", "DS", "UI", "US", "SS", "UL", "SL", "FL", "FD", "AT"})
_MARKS = frozenset({0x00120062, 0x00120063, 0x00120064, 0x00280303, 0x00080005})
_IMPLEMENTATION = UID("2.25.229474498309213166353093817341297813013")
_IMPLEMENTATION_NAME = "MEDIDISTILL"
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
        action: ``X``, ``Z``, ``D``, ``U``, ``C``, ``date``, ``time``, ``age``, ``term``, ``number``, ``equipment``,
            ``bulk`` or ``site``.
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


class _Deidentifier:
    """One file's settings, offset and words, while its datasets are walked."""

    def __init__(self, config: DeidentifyConfig, key: Key, source: Dataset) -> None:
        self.config, self.key = config, key
        self.patient = identity(source)
        self.offset = key.offset(self.patient)
        self.identifying = identifying_words(source)
        self.changes: list[Change] = []
        self.keep, self.remove, self.replace = config.keep_tags, config.remove_tags, config.replacements
        self.kept: set[tuple[int, str]] = set()  # by the site, as they are

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
            self.compare(element, new, where)
            if new is not None:
                target.add(new)
        return target

    def compare(self, element: DataElement, new: DataElement | None, where: str) -> None:
        """Record what became of an element where it is not what it was."""
        retyped = new is not None and new.VR != element.VR
        if new is None or retyped or (element.VR != "SQ" and new.value != element.value):
            self.note(where, self.decide(new if new is not None and retyped else element), element)

    def decide(self, element: DataElement) -> str:
        """Return the action for an element: the site's, the options', the profile's."""
        tag = int(element.tag)
        if tag in self.remove or tag in _MARKS:
            return "X"
        if tag in self.replace:
            return "site"
        if tag in self.keep:
            return "recurse" if element.VR == "SQ" else "K"
        if self.config.patient_characteristics and tag in KEPT_CHARACTERISTICS:
            return "age" if tag == _AGE else value_action(tag)
        return action_of(tag, element.VR)

    def element(self, element: DataElement, where: str) -> DataElement | None:
        """Return the new element, or None where it goes."""
        tag, vr, action = int(element.tag), element.VR, self.decide(element)
        if action == "X":
            own = self.in_own_vr(element) if tag in DISPLAY and tag not in self.remove else None
            return None if own is None else self.value(own, self.decide(own))
        if tag in (_PATIENT_NAME, _PATIENT_ID):
            return DataElement(tag, vr, self.key.patient(self.patient) if where.count("(") == 1 else "")
        if action == "site":
            return DataElement(tag, vr, self.replace[tag])
        if action == "recurse":
            return DataElement(tag, "SQ", self.items(element, where))
        if action == "K":
            self.kept.add((tag, vr))
            return copy.deepcopy(element)
        if action == "Z":
            return DataElement(tag, vr, empty(vr))
        if action == "D":
            return None if vr == "SQ" or dummy(vr) is None else DataElement(tag, vr, dummy(vr))
        if action == "U":
            return self.each(element, self.uid) if vr == "UI" else None
        if action == "bulk":
            return copy.deepcopy(element) if self.has_place(tag, where) else None
        return self.value(element, action)

    def carry_findings(self, source: Dataset, target: Dataset) -> None:
        """Write view and body part where the engine lost them, and record it."""
        noted = {change.where for change in self.changes}
        places = {"removed": self.remove, "kept": self.keep, "replaced": self.replace}
        for keyword in carry_findings(source, target, **places):
            tag = Tag(keyword)
            where = f"({tag.group:04X},{tag.element:04X})"
            if where not in noted:
                former = source[tag] if tag in source else DataElement(tag, dictionary_VR(tag), None)
                self.note(where, "term", former)

    @staticmethod
    def in_own_vr(element: DataElement) -> DataElement | None:
        """Return an element that decides about the picture in the VR of the dictionary; None where it has no value.

        Raises:
            IngestError: there is no exact form of it in that VR.
        """
        tag = int(element.tag)
        known, texts = dictionary_VR(tag), _texts(element)
        if not any(text.strip(" \0") for text in texts) or element.value == b"":
            return None
        new = []
        if known in ("DS", "IS"):
            new = [number_that_stays(tag, known, text) for text in texts]
        elif known == "CS":
            new = [term_that_stays(tag, text) for text in texts]
        if not new or not all(0 < len(text) <= _SHORT_TEXT for text in new):
            raise IngestError(
                f"({tag >> 16:04X},{tag & 0xFFFF:04X}) {dictionary_description(tag)}: must be stored as {known}, not "
                "in another value representation, for it decides how the pixels are seen; correct it in the source"
            )
        return DataElement(tag, known, new[0] if len(new) == 1 else new)

    @staticmethod
    def has_place(tag: int, where: str) -> bool:
        """Return whether bulk data stand where an image has them: pixels at the top, tables in their sequences."""
        if tag == _PIXEL_DATA:
            return where.count("(") == 1
        return where.rpartition("[")[0].endswith(_LUT_SEQUENCES)

    def value(self, element: DataElement, action: str) -> DataElement:
        """Return an element with what may stay of its values, or without a value.

        Raises:
            IngestError: an attribute that decides how the pixels are seen would lose its value.
        """
        tag, vr = int(element.tag), element.VR
        if action in ("date", "time"):
            if self.config.dates == "retain":
                return self.each(element, lambda text: temporal(vr, text))
            if self.config.dates == "shift" and action == "date":
                return self.each(element, lambda text: shift_date(text, self.offset))
            return DataElement(tag, vr, None)
        if action == "age":
            return self.each(element, cap_age)
        if action == "C":
            return self.each(element, lambda text: clean(text, self.identifying.names))
        if action == "equipment":
            return self.each(element, lambda text: equipment_that_stays(tag, text, self.identifying.all))
        if action == "number":
            new = self.number(element)
        else:
            new = self.each(element, lambda text: term_that_stays(tag, text))
        if tag in RENDERING and len(_texts(new)) < len([text for text in _texts(element) if text.strip()]):
            raise IngestError(f"({tag >> 16:04X},{tag & 0xFFFF:04X}) holds no value that the standard allows")
        return new

    def number(self, element: DataElement) -> DataElement:
        """Return a numeric element where all of its values may stay, else without a value."""
        tag, vr, texts = int(element.tag), element.VR, _texts(element)
        new = [number_that_stays(tag, vr, text) for text in texts]
        avoid = frozenset() if tag in RENDERING else self.identifying.all
        if not all(new) or len(new) > NUMBERS[tag].most or any(_digits(text) in avoid for text in new):
            return DataElement(tag, vr, None)
        if vr in ("DS", "IS"):
            return DataElement(tag, vr, new[0] if len(new) == 1 else new or None)
        if vr in ("FL", "FD"):  # eight bytes of text are some number too: six digits of it hold no letter
            rounded = [float(f"{float(text):.6g}") for text in new]
            return DataElement(tag, vr, rounded[0] if len(rounded) == 1 else rounded or None)
        return copy.deepcopy(element)

    def items(self, element: DataElement, where: str) -> DicomSequence:
        """Return the new items of a sequence; coded entries that the standard does not list are left out."""
        kept = []
        for index, item in enumerate(element.value or ()):
            place = f"{where}[{index}]"
            coded = any(tag in item for tag in CODED) and not where.endswith(_LUT_SEQUENCES)
            new = self.code(item, place) if coded else self.dataset(item, place)
            if new is None:
                self.note(place, "X", element)
            else:
                kept.append(new)
        return DicomSequence(kept)

    def code(self, item: Dataset, prefix: str) -> Dataset | None:
        """Return a coded entry in the words of the standard, with its modifiers and what the site keeps; else None."""
        new = code_that_stays(item) or Dataset()
        for element in item:
            tag, where = int(element.tag), f"{prefix}({element.tag.group:04X},{element.tag.element:04X})"
            if tag in self.keep or tag in self.replace or (element.VR == "SQ" and "CodeValue" in new):
                if (own := self.element(element, where)) is not None:
                    new[tag] = own
            elif tag in self.remove and tag in new:
                del new[tag]
            self.compare(element, new.get(tag), where)
        return new if len(new) else None

    def each(self, element: DataElement, change: Callable[[str], str]) -> DataElement:
        """Return an element with each of its values changed."""
        new = [change(text) for text in _texts(element)]
        value: Any = new[0] if len(new) == 1 else new
        return DataElement(element.tag, element.VR, value if any(new) else None)

    def uid(self, text: str) -> str:
        """Return the new UID; those that the standard registers stay."""
        return text if not text or UID(text, 0).name != text else self.key.uid(text)

    @property
    def keeps_the_profile(self) -> bool:
        """Whether the site keeps no element that the profile would remove or change."""
        return not any(tag in profile() for tag, _ in self.kept)

    @property
    def keeps_no_text(self) -> bool:
        """Whether no text stays that was not cleaned."""
        return all(vr in _NO_FREE_TEXT for _, vr in self.kept)


def _texts(element: DataElement) -> list[str]:
    value = element.value
    if value is None:
        return []
    return [str(one) for one in (value if isinstance(value, MultiValue | list | tuple) else [value])]


def _digits(text: str) -> str:
    """Return the whole part of a number without its sign, where it has four digits and more: else nothing equals it."""
    whole = text.lstrip("-").partition(".")[0]
    return whole if len(whole) >= 4 else " "


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
        IngestError: no identifier to derive a pseudonym from, or the object has no class, instance or transfer syntax.

    Source: PS3.15 E.1 to E.3; codes of PS3.16 CID 7050.
    """
    syntax = getattr(source, "file_meta", Dataset()).get("TransferSyntaxUID")
    named = {
        "(0002,0010) Transfer Syntax UID": syntax,
        "(0008,0016) SOP Class UID": source.get("SOPClassUID"),
        "(0008,0018) SOP Instance UID": source.get("SOPInstanceUID"),
    }
    if missing := [name for name, value in named.items() if not value]:
        raise IngestError(f"{' and '.join(missing)} missing or empty: the image has no identity")
    run = _Deidentifier(config, key, source)
    target = run.dataset(source)
    run.carry_findings(source, target)
    _mark(target, config, run)
    trim_lookup_tables(target, little_endian=source.original_encoding[1] is not False)
    syntax = write_pixels(source, target)

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = target.SOPClassUID
    meta.MediaStorageSOPInstanceUID = target.SOPInstanceUID
    meta.TransferSyntaxUID = syntax
    meta.ImplementationClassUID = _IMPLEMENTATION
    meta.ImplementationVersionName = _IMPLEMENTATION_NAME
    target.file_meta = meta
    target.preamble = b"\0" * 128
    return Deidentified(target, tuple(run.changes), key.patient(run.patient))


def _mark(target: Dataset, config: DeidentifyConfig, run: _Deidentifier) -> None:
    """Record the de-identification, and nothing else: (0012,0062), (0012,0063), (0012,0064), (0028,0303)."""
    codes = ["113100"] if run.keeps_the_profile else []
    codes += ["113105"] if run.keeps_no_text else []
    codes += {"shift": ["113107"], "retain": ["113106"], "remove": []}[config.dates]
    codes += ["113108"] if config.patient_characteristics else []
    target.PatientName = target.PatientID = run.key.patient(run.patient)
    target.PatientIdentityRemoved = "YES"
    method = [f"medidistill {version('medidistill')}", EDITION]
    if config.remove or config.keep or config.replace:
        recipe = repr((config.remove, config.keep, config.replace))
        method.append(f"site recipe {hashlib.sha256(recipe.encode()).hexdigest()[:16]}")
    target.DeidentificationMethod = method
    if codes:
        target.DeidentificationMethodCodeSequence = DicomSequence(_code(value) for value in codes)
    kept = {"shift": "MODIFIED", "retain": "UNMODIFIED", "remove": "REMOVED"}
    target.LongitudinalTemporalInformationModified = kept[config.dates]
    if not all(text.isascii() for element in target.iterall() for text in _words_of(element)):
        target.SpecificCharacterSet = "ISO_IR 192"  # what the site keeps or writes


def _words_of(element: DataElement) -> list[str]:
    return [] if element.VR in ("SQ", "OB", "OW") or isinstance(element.value, bytes) else _texts(element)


def _code(value: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", _CODES[value]
    return item


def written_by_engine(target: Dataset) -> tuple[str, ...]:
    """Return the texts of a result that are the engine's own: pseudonym, method, implementation."""
    return (str(target.PatientID), *map(str, target.DeidentificationMethod), _IMPLEMENTATION_NAME)
