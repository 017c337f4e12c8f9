"""Coded entries: those of the standard's context groups stay, with the meaning that the standard gives them.

A code of any other scheme, and any other code of these schemes, may be a hospital's own and its meaning a person.

Source: PS3.16 context groups, as pydicom carries them (`pydicom.sr`).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from pydicom.dataset import Dataset
from pydicom.sr._concepts_dict import concepts
from pydicom.sr._snomed_dict import mapping

__all__ = ["CODED", "code_that_stays", "meaning_of"]

# any of these makes an item a coded entry (PS3.3 8.8)
CODED = (0x00080100, 0x00080119, 0x00080120)
_FORMER_SNOMED = frozenset({"SRT", "SNM3", "99SDM"})


@functools.cache
def _meanings() -> Mapping[tuple[str, str], str]:
    table: dict[tuple[str, str], str] = {}
    listed: Any = concepts  # scheme -> keyword -> code -> (meaning, context groups)
    for scheme, keywords in listed.items():
        for codes in keywords.values():
            for code, (meaning, _) in codes.items():
                table.setdefault((scheme, code), meaning.split(" (")[0][:64])
    return table


def meaning_of(scheme: str, code: str) -> str:
    """Return the standard's meaning of a code, or an empty text for one that it does not list."""
    if scheme in _FORMER_SNOMED:
        scheme, code = "SCT", mapping["SRT"].get(code, "")
    return _meanings().get((scheme, code), "")


def code_that_stays(item: Dataset) -> Dataset | None:
    """Return value, scheme and meaning of a coded entry, or None where it is none of the standard's."""
    scheme, code = (str(item.get(name, "") or "").strip() for name in ("CodingSchemeDesignator", "CodeValue"))
    meaning = meaning_of(scheme, code)
    if not meaning:
        return None
    new = Dataset()
    new.CodeValue, new.CodingSchemeDesignator, new.CodeMeaning = code, scheme, meaning
    return new
