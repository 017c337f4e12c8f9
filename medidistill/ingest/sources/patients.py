"""Who is the patient of an image: by the table, else the header, else the study; one patient under two spellings."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import defaultdict
from dataclasses import dataclass, field

from medidistill.patient_units import PatientSource

__all__ = ["Identity", "Spellings", "hash_patient", "identify", "is_placeholder", "normal_id"]

# values that anonymisers and forms put where an identifier belongs; compared without case, spaces and punctuation
_PLACEHOLDERS = {
    *("anonymous", "anonymised", "anonymized", "anonym", "anon", "deidentified", "removed", "redacted"),
    *("unknown", "unk", "none", "null", "nil", "nan", "na", "notavailable", "notapplicable", "missing", "noid"),
    *("patient", "patientid", "id", "test", "default", "xxx", "xxxx", "x"),
}
_NUMBER = re.compile(r"\d+\.0+")
_THOUSANDS = re.compile(r"\d{1,3}(?:[,.'\u2019](?=\d))\d{3}(?:[,.'\u2019]\d{3})*")
_LEADING_ZEROS = re.compile(r"(?<![\d.])0+(?=\d)")


@dataclass(frozen=True)
class Identity:
    """A patient as one image states it. `raw` goes into no table and no message.

    Args:
        raw: what is hashed.
        source: where it is from.
        placeholder: whether a table or header held a word such as ANONYMOUS in its place.
    """

    raw: str
    source: PatientSource
    placeholder: bool = False


def hash_patient(identifier: str) -> str:
    """Return ``p-`` and 12 hexadecimal digits of the SHA-256 of a patient identifier.

    It keeps names out of tables and messages; it does not protect an identifier that can be guessed.
    """
    return "p-" + hashlib.sha256(identifier.strip().encode("utf-8", "surrogateescape")).hexdigest()[:12]


def identify(key: str, table: str, header: str, study: str) -> Identity:
    """Return whose an image is.

    Args:
        key: name of the file, unique in the source.
        table: cell of the column `patient_id`.
        header: Patient ID; empty where it was not read.
        study: Study Instance UID; likewise.
    """
    placeholder = any(one.strip() and is_placeholder(one) for one in (table, header))
    if table.strip() and not is_placeholder(table):
        return Identity(table.strip(), PatientSource.TABLE)
    if header.strip() and not is_placeholder(header):
        return Identity(header.strip(), PatientSource.HEADER, placeholder)
    if study.strip():
        return Identity(f"study\x1f{study.strip()}", PatientSource.STUDY, placeholder)
    return Identity(f"file\x1f{key}", PatientSource.NOTHING, placeholder)


def is_placeholder(text: str) -> bool:
    """Return whether a word such as ANONYMOUS, or nothing but punctuation, stands where an identifier belongs."""
    letters = re.sub(r"[\W_]+", "", text.casefold())
    return letters in _PLACEHOLDERS or not letters


def normal_id(raw: str) -> str:
    """Return an identifier without case, spaces, leading zeros, thousands separators and a final `.0`."""
    text = re.sub(r"\s+", "", unicodedata.normalize("NFKC", raw)).casefold()
    if _THOUSANDS.fullmatch(text):
        text = re.sub(r"\D", "", text)
    if _NUMBER.fullmatch(text):
        text = text.partition(".")[0]
    return _LEADING_ZEROS.sub("", text)


@dataclass
class Spellings:
    """Collects identifiers as they are written, and finds those that may be one patient's.

    They are kept while a source is read and nowhere else.
    """

    _raw: dict[str, str] = field(default_factory=dict)  # hash -> as written

    def add(self, identity: Identity) -> str:
        """Note an identity; return its hash."""
        hashed = hash_patient(identity.raw)
        if identity.source in (PatientSource.TABLE, PatientSource.HEADER):
            self._raw[hashed] = identity.raw
        return hashed

    def same(self) -> dict[str, str]:
        """Return for each identifier that looks like another one the hash of the form that stands for all of them.

        That is the first in the order of their letters; it is mapped to itself.
        """
        groups: dict[str, list[str]] = defaultdict(list)
        for hashed, raw in self._raw.items():
            groups[normal_id(raw)].append(hashed)
        several = [sorted(group, key=self._raw.__getitem__) for group in groups.values() if len(group) > 1]
        return {hashed: group[0] for group in several for hashed in group}
