"""What happens to which element: PS3.15 Table E.1-1, and stricter rules for what the table leaves alone.

The table (edition 2026c) comes from the package dicom-anonymizer. Its codes: D dummy value, Z empty value,
X remove, U new UID, and combinations that depend on whether the object needs the element. An element that the
table does not name stays only where a list defines its possible values (`attributes`, `codes`, `equipment`).
"""

from __future__ import annotations

import functools

from dicomanonymizer.dicom_anonymization_databases import dicomfields_2026c as edition
from pydicom.datadict import dictionary_VR, tag_for_keyword

from medidistill.ingest.deidentify.attributes import NUMBERS, TERMS
from medidistill.ingest.deidentify.equipment import EQUIPMENT

__all__ = ["EDITION", "KEPT_CHARACTERISTICS", "action_of", "profile", "value_action"]

EDITION = "PS3.15 2026c Table E.1-1"

# Type 2 in the DX object (PS3.3 A.26): stays, empty. No element with a choice between X and D is type 1 in CR or DX.
_TYPE_2 = frozenset({tag_for_keyword("AcquisitionContextSequence")})

# Retain Patient Characteristics Option: those whose values are numbers or one of a few words
KEPT_CHARACTERISTICS = frozenset(
    tag_for_keyword(name)
    for name in ("PatientAge", "PatientSex", "PatientSize", "PatientWeight", "SmokingStatus", "PregnancyStatus")
)

# Descriptors that are cleaned (words of a fixed vocabulary stay) instead of removed: Clean Descriptors Option
_CLEANED = frozenset(
    tag_for_keyword(name)
    for name in (
        *("StudyDescription", "SeriesDescription", "ProtocolName", "DerivationDescription"),
        *("LUTExplanation", "WindowCenterWidthExplanation"),
    )
)
_LUT_DATA = 0x00283006
_LUT_VRS = frozenset({"US", "SS", "OW", "OB", "UN"})  # all are met; what is written is OW
_BULK = frozenset({0x7FE00010, _LUT_DATA})
_ORIENTATION = tag_for_keyword("PatientOrientation")
_BIRTH = frozenset(map(tag_for_keyword, ("PatientBirthDate", "PatientBirthTime")))

# The days of a patient's examination, which move with the patient. Any other date (of manufacture, installation,
# calibration) has one true value for many patients: moved, it would give each one's offset away.
_EPISODE = frozenset(
    tag_for_keyword(name)
    for name in (
        *("InstanceCreationDate", "StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate", "AcquisitionDateTime"),
        *("FrameAcquisitionDateTime", "FrameReferenceDateTime", "StartAcquisitionDateTime", "EndAcquisitionDateTime"),
        *("AdmittingDate", "IssueDateOfImagingServiceRequest"),
        *("ScheduledProcedureStepStartDate", "ScheduledProcedureStepEndDate", "ScheduledProcedureStepStartDateTime"),
        *("PerformedProcedureStepStartDate", "PerformedProcedureStepEndDate"),
        *("PerformedProcedureStepStartDateTime", "PerformedProcedureStepEndDateTime"),
    )
)


@functools.cache
def profile() -> dict[int, str]:
    """Return tag -> code of the table; repeating groups (curves, overlays) are left to `action_of`."""
    codes = {
        "D": edition.D_TAGS,
        "Z": edition.Z_TAGS,
        "X": edition.X_TAGS,
        "U": edition.U_TAGS,
        "Z/D": edition.Z_D_TAGS,
        "X/Z": edition.X_Z_TAGS,
        "X/D": edition.X_D_TAGS,
        "X/Z/D": edition.X_Z_D_TAGS,
        "X/Z/U*": edition.X_Z_U_STAR_TAGS,
    }
    return {tag[0] << 16 | tag[1]: code for code, tags in codes.items() for tag in tags if len(tag) == 2}


def _resolve(tag: int, code: str) -> str:
    """Return one action for a combined code: the strictest that the element's type in CR and DX allows."""
    options = code.split("/")
    if "U*" in options:
        return "recurse"
    if tag in _TYPE_2 and "Z" in options:
        return "Z"
    return "X" if "X" in options else "Z"


def action_of(tag: int, vr: str) -> str:
    """Return what happens to an element under the basic profile with cleaned descriptors.

    Returns:
        `X` remove, `Z` empty, `D` dummy value, `U` new UID, `C` clean the words, `date` and `time` by setting,
        `term` keep the defined terms of the attribute, `number` keep what is in its range, `equipment` keep listed
        names and versions, `bulk` keep pixels and look-up tables, `recurse` into the items.
    """
    group = tag >> 16
    # private, group lengths, command and file groups, curves, overlays
    if group % 2 or tag & 0xFFFF == 0 or group < 0x0008 or 0x5000 <= group <= 0x501E or 0x6000 <= group <= 0x601E:
        return "X"
    try:
        known = dictionary_VR(tag)
    except KeyError:
        return "X"  # not in the dictionary: its content is unknown
    if tag == _LUT_DATA and vr in _LUT_VRS:
        return "bulk"
    if vr != known and vr not in known.split(" or "):
        return "X"  # a PN that calls itself US
    if tag in _CLEANED:
        return "C"
    if vr in ("DA", "DT", "TM") and tag not in _BIRTH:
        return "time" if vr == "TM" else "date" if tag in _EPISODE else "X"
    code = profile().get(tag)
    if code is not None:
        return code if len(code) == 1 else _resolve(tag, code)
    if vr == "UI":
        return "U"
    if vr == "SQ":
        return "recurse"
    return value_action(tag)


def value_action(tag: int) -> str:
    """Return what decides about the value of an attribute that the table does not name; `X` where nothing does."""
    if tag in _BULK:
        return "bulk"
    if tag in NUMBERS:
        return "number"
    if tag in TERMS or tag == _ORIENTATION:
        return "term"
    return "equipment" if tag in EQUIPMENT else "X"
