"""Words: those that identify nobody, and those of one file that may identify somebody."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from medidistill.ingest.deidentify.table import profile

__all__ = ["VOCABULARY", "clean", "fold", "identifying_words", "scrub", "split"]

# What descriptors may say. A surname that is also one of these words cannot be told from it.
_WORDS = """
    abdomen acquisition adult anatomical anonymous anterior antero anteroposterior ap axial bedside bilateral body
    bone bucky cervical chest clavicle computed cr cranial cxr decubitus derived detector digital direct dx
    emergency erect expiration exposure extremity female for frontal grid horizontal identity image inspiration
    inverse lat lateral left linear ll lordotic lung lungs male min2 mobile monochrome1 monochrome2 neck neutral no
    none normal oblique original other pa pediatric pelvis plain portable posterior postero posteroanterior
    presentation primary processed processing projection projections radiograph radiographic radiography ray
    recumbent region removed rib ribs right routine sagittal secondary semi series shoulder sigmoid sitting spine
    standard standing stationary sternum study supine text thoracic thorax two unknown unspecified upright value
    view views whole without x xray yes
"""
VOCABULARY = frozenset(_WORDS.split())
_MIN_LETTERS = 3


def fold(text: str) -> str:
    """Return a text without case, accents and width: what two spellings of a name have in common."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    return "".join(letter for letter in plain if not unicodedata.combining(letter))


def split(text: str) -> list[str]:
    """Return the folded words of a text: runs of letters and digits."""
    return re.findall(r"[^\W_]+", fold(text))


def _element_words(element: DataElement) -> Iterable[str]:
    values = element.value if element.VM > 1 else [element.value]
    for value in values or ():
        if isinstance(value, bytes):
            yield from split(value.decode("latin-1"))
        elif value is not None and element.VR not in ("SQ", "US", "SS", "UL", "SL", "FL", "FD", "AT", "OB", "OW"):
            yield from split(str(value))


def identifying_words(dataset: Dataset) -> frozenset[str]:
    """Return the words of every element, at any depth, that the profile removes, empties or replaces."""
    found: set[str] = set()
    table = profile()
    for element in dataset.iterall():
        if (element.VR in ("PN", "AE") or int(element.tag) in table) and element.VR not in ("UI", "TM"):
            found.update(_element_words(element))
    return frozenset(word for word in found if len(word) >= _MIN_LETTERS or not word.isascii()) - VOCABULARY


def clean(text: str) -> str:
    """Return the words of a descriptor that the vocabulary holds, in capitals."""
    return " ".join(word.upper() for word in split(text) if word in VOCABULARY)


def scrub(text: str, identifying: frozenset[str]) -> str:
    """Return a short text in ASCII without the words that may identify somebody."""
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    kept = [part for part in ascii_text.split() if not identifying.intersection(split(part))]
    return " ".join(kept)
