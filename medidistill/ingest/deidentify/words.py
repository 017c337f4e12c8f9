"""Word lists: words that identify no one, and the words of a file that may identify a person."""

from __future__ import annotations

from collections.abc import Iterable

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from medidistill.ingest.deidentify.spelling import parts_of_name, spellings, words
from medidistill.ingest.deidentify.table import profile

__all__ = ["VOCABULARY", "Identifying", "clean", "identifying_words"]

# Words allowed in descriptions. A surname equal to one of them is not recognised unless an element names it.
_WORDS = """
    abdomen acquisition adult anatomical anonymous anterior antero anteroposterior ap axial bedside bilateral body bone
    bucky cervical chest clavicle computed contrast cr cranial cxr decubitus default derived detector digital direct dx
    emergency erect expiration exposure extremity female for frontal grid harder horizontal identity image inspiration
    inverse lat lateral left linear ll lordotic lung lungs male mediastinum min2 mobile monochrome1 monochrome2 neck
    neutral no none normal oblique original other pa pediatric pelvis plain portable posterior postero posteroanterior
    presentation preset primary processed processing profil projection projections radiograph radiographic radiography
    ray recumbent region removed rib ribs right routine sagittal secondary seitlich semi series shoulder sigmoid
    sitting softer spine standard standing stationary sternum study supine text thoracic thorax two unknown unspecified
    upright value view views whole window without x xray yes
"""
VOCABULARY = frozenset(_WORDS.split())
_MIN_LETTERS = 3
_NO_TEXT = frozenset({"SQ", "US", "SS", "UL", "SL", "FL", "FD", "AT", "OB", "OW"})


class Identifying:
    """Folded words of one file, in every spelling.

    Args:
        names: words of person names, of two letters and more.
        others: words of the other elements that the profile removes, empties or replaces.
    """

    def __init__(self, names: Iterable[str], others: Iterable[str]) -> None:
        self.names = frozenset(names)
        self.all = self.names | (frozenset(others) - VOCABULARY)


def _element_words(element: DataElement) -> Iterable[str]:
    values = element.value if element.VM > 1 else [element.value]
    for value in values or ():
        if isinstance(value, bytes):
            yield from words(value.decode("latin-1"))
        elif value is not None and element.VR not in _NO_TEXT:
            for spelling in spellings(str(value)):
                yield from words(spelling)


def _name_words(element: DataElement) -> Iterable[str]:
    for value in element.value if element.VM > 1 else [element.value]:
        for part in parts_of_name(str(value or "")):
            for spelling in spellings(part):
                yield from words(spelling)


def identifying_words(dataset: Dataset) -> Identifying:
    """Return the words of every element, at any depth, that the profile removes, empties or replaces."""
    names: set[str] = set()
    others: set[str] = set()
    table = profile()
    for element in dataset.iterall():
        if element.VR == "PN":
            names.update(_name_words(element))
        if (element.VR in ("PN", "AE") or int(element.tag) in table) and element.VR not in ("UI", "TM"):
            others.update(_element_words(element))
    return Identifying(
        (word for word in names if len(word) >= 2),
        (word for word in others if len(word) >= _MIN_LETTERS or not word.isascii()),
    )


def clean(text: str, names: frozenset[str] = frozenset()) -> str:
    """Return the words of a descriptor that the vocabulary holds and no person name of the file does, in capitals."""
    return " ".join(word.upper() for word in words(text) if word in VOCABULARY and word not in names)
