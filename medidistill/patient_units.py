"""What stands for a patient in a run: an identifier, a study, or nothing but the image itself.

Splits, intervals, attacks and guarantees count patients. Where nothing tells whose an image is, each image counts as a
patient of its own, and everything that is said by patient must say so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum

from medidistill.jsontypes import ReadOnlyJsonObject  # facts of a stage, see `RunRecord.stages`

__all__ = ["FACT", "PatientSource", "PatientUnits"]

FACT = "patients_known_by"  # key in the record of the ingest stage


class PatientSource(StrEnum):
    """What tells whose image it is."""

    TABLE = "table"
    HEADER = "header"
    STUDY = "study"
    NOTHING = "nothing"


@dataclass(frozen=True)
class PatientUnits:
    """How many images are told apart by what.

    Args:
        table: by the column `patient_id`.
        header: by Patient ID (0010,0020).
        study: by Study Instance UID (0020,000D): one patient's second study counts as another patient.
        nothing: not at all: each image counts as a patient of its own.
        noted: whether a run says so at all; those of earlier versions do not.
    """

    table: int = 0
    header: int = 0
    study: int = 0
    nothing: int = 0
    noted: bool = True

    @classmethod
    def of(cls, sources: Iterable[str]) -> PatientUnits:
        """Count the sources of images."""
        found = Counter(sources)
        table, header, study, nothing = (found[source.value] for source in PatientSource)
        return cls(table, header, study, nothing)

    @classmethod
    def from_facts(cls, facts: ReadOnlyJsonObject) -> PatientUnits:
        """Return what the record of a finished ingest stage says."""
        known = facts.get(FACT)
        return cls(noted=False) if known is None else cls(**known)

    def as_facts(self) -> dict[str, int]:
        """Return what the record of an ingest stage keeps."""
        return {name: number for name, number in asdict(self).items() if name != "noted"}

    @property
    def images(self) -> int:
        """All images."""
        return self.table + self.header + self.study + self.nothing

    @property
    def unresolved(self) -> str:
        """Why nothing can be said by patient, empty where it can."""
        if not self.noted:
            return "this run does not note what tells its patients apart"
        if not self.nothing:
            return ""
        return f"patients unknown, split by image ({self.nothing} of {self.images} images)"

    def sentences(self, *, counts: bool = True) -> list[str]:
        """Return what a reader of results must know, empty where every image names its patient.

        Args:
            counts: say how many images; without for what a guarantee has to cover.
        """
        told = []
        some, none = (f"{number} of {self.images}" if counts else "some" for number in (self.nothing, self.study))
        if self.nothing:
            share = "" if self.nothing == self.images else f" for {some} images"
            told.append(
                f"Patients unknown{share}: split by image. No table and no header tells whose these images are, so "
                "images of one patient may lie in different splits, and every count of patients is one of images."
            )
        if self.study:
            told.append(
                f"{none.capitalize()} images have no Patient ID: the study (Study Instance UID) stands for "
                "the patient, so two studies of one patient may lie in different splits."
            )
        return told
