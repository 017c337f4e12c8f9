"""Whose an image is: the text that a pseudonym and an offset of dates are made from.

The same as `ingest` takes for one patient: one ID under several spellings is one, a word such as ANONYMOUS is none.
"""

from __future__ import annotations

from pydicom.dataset import Dataset

from medidistill.errors import IngestError
from medidistill.ingest.sources.patients import is_placeholder, normal_id

__all__ = ["header_patient", "identity", "identity_of_id"]


def identity(source: Dataset) -> str:
    """Return what stands for the patient of an image: ID and issuer, else the study, else the image.

    Raises:
        IngestError: it has none of them.
    """
    patient, issuer = header_patient(source)
    if patient:
        return identity_of_id(patient, issuer)
    for name in ("StudyInstanceUID", "SOPInstanceUID"):
        if value := _text(source, name):
            return f"{name}\x1f{value}"
    raise IngestError("neither Patient ID nor a study or instance UID: no identifier to derive a pseudonym from")


def identity_of_id(patient: str, issuer: str = "") -> str:
    """Return what stands for a patient ID, the same for each of its spellings, and its issuer."""
    return f"{normal_id(patient)}\x1f{issuer}"


def header_patient(source: Dataset) -> tuple[str, str]:
    """Return Patient ID and Issuer of Patient ID; both empty where the ID is absent or a placeholder."""
    patient = _text(source, "PatientID")
    return ("", "") if is_placeholder(patient) else (patient, _text(source, "IssuerOfPatientID"))


def _text(source: Dataset, keyword: str) -> str:
    return str(source.get(keyword, "") or "").strip()
