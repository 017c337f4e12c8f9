"""Which images are let through at all: kind of object, marks in the header, text in the pixels."""

from __future__ import annotations

from pydicom.dataset import Dataset

from medidistill.errors import IngestError
from medidistill.ingest.deidentify.settings import DeidentifyConfig
from medidistill.ingest.deidentify.text import MIN_LETTERS, letters_in_row
from medidistill.ingest.dicom import decode, render_stored

__all__ = ["screen_header", "screen_pixels"]

_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.1": "CR",
    "1.2.840.10008.5.1.4.1.1.1.1": "DX for presentation",
    "1.2.840.10008.5.1.4.1.1.1.1.1": "DX for processing",
}
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


def screen_header(dataset: Dataset, config: DeidentifyConfig) -> None:
    """Refuse secondary captures, other objects and modalities, and images marked as carrying text or a face.

    Raises:
        IngestError: the reason, in words of the standard alone.
    """
    kind = str(dataset.get("SOPClassUID", "") or "")
    if kind.startswith(_SECONDARY_CAPTURE) or dataset.get("ConversionType"):
        raise IngestError("secondary capture: may be a photograph of a screen")
    if kind not in _CLASSES:
        raise IngestError(f"other object class: must be {', '.join(_CLASSES.values())}")
    if str(dataset.get("Modality", "") or "") not in config.modalities:
        raise IngestError(f"other modality: must be {', '.join(config.modalities)}")
    for name, text in (("BurnedInAnnotation", "(0028,0301)"), ("RecognizableVisualFeatures", "(0028,0302)")):
        if str(dataset.get(name, "") or "").strip().upper() == "YES":
            raise IngestError(f"{text} {name} is YES")


def screen_pixels(dataset: Dataset) -> None:
    """Look for rows of letters near the borders, in the stored pixels and as the image is shown.

    Raises:
        IngestError: rows of letters, or pixels that cannot be decoded and so cannot be looked at.
    """
    try:
        stored = decode(dataset)
    except IngestError as error:  # its message holds words of the standard and no value
        raise IngestError(f"pixels cannot be decoded, or are no single grey radiograph: {error}") from error
    try:
        shown = render_stored(dataset, stored)
    except Exception as error:  # damaged attributes raise anything
        raise IngestError("no window or look-up table that the standard allows") from error
    if max(letters_in_row(picture) for picture in (stored, shown)) >= MIN_LETTERS:
        raise IngestError("letters in the pixels near a border")
