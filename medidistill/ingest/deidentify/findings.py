"""View and body part after the engine: what the quality gate finds in the input, it finds in the output.

The gate reads them from texts too, of which the engine keeps a part or nothing. Only terms of the standard or of this
project are written, never a word of the input.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from pydicom.datadict import dictionary_description, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from medidistill.errors import IngestError
from medidistill.ingest.deidentify.codes import meaning_of
from medidistill.ingest.header_screening import LATERAL, OBLIQUE, OTHER_PART, body_part, view

__all__ = ["carry_findings"]

_VIEW_TERMS = {LATERAL: "LAT", OBLIQUE: "OBLIQUE", "frontal": "FRONTAL"}
_SIDE_WORDS = re.compile(r"\b(LAT|LATERAL|SEITLICH|PROFIL)\b *")
_DESCRIPTIONS = ("SeriesDescription", "ProtocolName")
_SOME_PART = ("123037004", "SCT")  # "Body structure": a part of the body, and nothing said about which


def carry_findings(
    source: Dataset,
    target: Dataset,
    *,
    removed: Collection[int],
    kept: Collection[int],
    replaced: Collection[int],
) -> tuple[str, ...]:
    """Write view and body part of an image as defined terms where what is left of its header says something else.

    A view goes to View Position. A part that is none of the chest and has no defined term becomes the code *Body
    structure* in Anatomic Region Sequence; a chest that other words stood beside becomes CHEST.

    Args:
        source: the dataset that came in.
        target: what the engine made of it; changed in place.
        removed: tags that the site removes.
        kept: tags that the site keeps as they are.
        replaced: tags whose value is the site's; its word stands.

    Returns:
        Keywords of the attributes that were changed.

    Raises:
        IngestError: the recipe leaves no place for a view or a part that the quality gate sets aside.
    """
    return (
        *_carry_view(source, target, removed, kept, replaced),
        *_carry_body_part(source, target, removed, kept, replaced),
    )


def _carry_view(
    source: Dataset, target: Dataset, removed: Collection[int], kept: Collection[int], replaced: Collection[int]
) -> tuple[str, ...]:
    found, place = view(source), _tag("ViewPosition")
    if view(target) == found or place in replaced:
        return ()
    if not found:
        return _take_back_a_side(target, kept, replaced)
    if place in removed or place in kept:
        if found in (LATERAL, OBLIQUE):
            raise _no_place("ViewPosition", f"a {found} view", "removes" if place in removed else "keeps", "PA")
        return ()
    target.ViewPosition = _VIEW_TERMS[found]
    if view(target) != found and "ViewCodeSequence" in target:  # a code of another view, which stood behind this one
        del target.ViewCodeSequence
        return "ViewPosition", "ViewCodeSequence"
    return ("ViewPosition",)


def _take_back_a_side(target: Dataset, kept: Collection[int], replaced: Collection[int]) -> tuple[str, ...]:
    """Remove the word of a side where the word of the front beside it went: `a.p./lateral` is neither view."""
    changed = []
    for keyword in _DESCRIPTIONS:
        if target.get(keyword) and _tag(keyword) not in kept and _tag(keyword) not in replaced:
            target[keyword].value = _SIDE_WORDS.sub("", str(target[keyword].value)).strip() or None
            changed.append(keyword)
    return tuple(changed)


def _carry_body_part(
    source: Dataset, target: Dataset, removed: Collection[int], kept: Collection[int], replaced: Collection[int]
) -> tuple[str, ...]:
    found, named, region = body_part(source), _tag("BodyPartExamined"), _tag("AnatomicRegionSequence")
    if body_part(target) == found or named in replaced:
        return ()
    if found != OTHER_PART:
        if named in removed or named in kept:
            return ()
        target.BodyPartExamined = "CHEST"
        return ("BodyPartExamined",)
    if region in removed or region in kept:
        raise _no_place(
            "AnatomicRegionSequence", "no part of the chest", "removes" if region in removed else "keeps", "CHEST"
        )
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator = _SOME_PART
    item.CodeMeaning = meaning_of(*reversed(_SOME_PART))
    target.AnatomicRegionSequence = Sequence([item])
    if "BodyPartExamined" in target:
        target["BodyPartExamined"].value = None
        return "AnatomicRegionSequence", "BodyPartExamined"
    return ("AnatomicRegionSequence",)


def _tag(keyword: str) -> int:
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    return tag


def _no_place(keyword: str, what: str, does: str, term: str) -> IngestError:
    tag = _tag(keyword)
    instead = "BodyPartExamined" if keyword == "AnatomicRegionSequence" else keyword
    return IngestError(
        f"({tag >> 16:04X},{tag & 0xFFFF:04X}) {dictionary_description(tag)}: the recipe {does} it, and nothing else "
        f"would say that the image shows {what}; take it out of the recipe, or state what it shows: "
        f"`replace: {{{instead}: {term}}}`"
    )
