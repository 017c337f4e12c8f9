"""The images as DICOM Secondary Capture, marked as synthetic, for archives and viewers.

Secondary Capture, not DX: a DX object asserts an acquisition. Nothing in a header comes from a patient or from a
source object; every identifier follows from the content of the set, so that the same set makes the same objects and a
second push to an archive changes nothing. One-channel images keep 16 bits: `stored x slope + intercept` is the
network input to within (largest - smallest) / 131070, or the picture where the set is ZCA-whitened, and the window
shows what the PNG copies show.

A class is a series whose instances count from 1, in the order of the set: viewers without a spatial position to sort
by (OHIF, Weasis) show them by Instance Number. There is no Frame of Reference, since nothing was measured in space.
"""

from __future__ import annotations

import hashlib
import io
import uuid
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from highdicom import ContributingEquipment
from highdicom.sc import SCImage
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import UID, ExplicitVRLittleEndian
from pydicom.valuerep import DSfloat

from medidistill.distilled_set import DistilledSet
from medidistill.export.copies import display_pixels, file_stem
from medidistill.export.recipe import steps_behind
from medidistill.jsontypes import ReadOnlyJsonObject  # a recipe, checked by its schema
from medidistill.words import origin_words

__all__ = ["dicom_files"]

_TOP = 65535
# part of every identifier: a header that says something else than an earlier version's is another object
_HEADER_REVISION = 3
_TIME = "000000"


def dicom_files(distilled: DistilledSet, recipe: ReadOnlyJsonObject) -> Iterator[tuple[str, bytes]]:
    """Yield (file name, bytes) of one DICOM object an image: one study, one series a class.

    Args:
        distilled: the set, with one or three channels; its recipe says `method` and `init`.
        recipe: what `make_recipe` returned; its name, its day (of the run, of no patient) and version are shown.
    """
    name, created, software = recipe["name"], recipe["created"], recipe["versions"].get("medidistill", "unknown")
    identity = hashlib.sha256(distilled.images.detach().cpu().contiguous().numpy().tobytes())
    identity.update(repr((distilled.labels.tolist(), name, created, _HEADER_REVISION)).encode())
    seed = identity.hexdigest()
    pixels, scaling = _stored(distilled)
    places: Counter[int] = Counter()
    for number, label in enumerate(distilled.labels.tolist()):
        class_name = distilled.class_names[label]
        places[label] += 1
        image = SCImage(
            pixel_array=pixels[number],
            photometric_interpretation="MONOCHROME2" if scaling else "RGB",
            bits_allocated=16 if scaling else 8,
            coordinate_system="PATIENT",
            patient_orientation=("L", "F"),
            study_instance_uid=_uid(seed, "study"),
            series_instance_uid=_uid(seed, "series", label),
            series_number=label + 1,
            sop_instance_uid=_uid(seed, "image", number),
            instance_number=places[label],
            manufacturer="medidistill",
            patient_id=f"SYN-{seed[:12].upper()}",
            patient_name="PHANTOM^DISTILLED SET",
            study_id=seed[:8].upper(),
            study_date=created.replace("-", ""),
            study_time=_TIME,
            series_description=_text(f"Distilled, class {class_name}", 64),
            manufacturer_model_name="medidistill",
            software_versions=software,
            transfer_syntax_uid=ExplicitVRLittleEndian,
            contributing_equipment=[
                ContributingEquipment(
                    "medidistill",
                    codes.DCM.SynthesizingEquipment,
                    manufacturer_model_name="medidistill",
                    software_versions=software,
                    contribution_description="Dataset distillation: synthetic images",
                )
            ],
        )
        _mark(image, distilled, class_name, name, created)
        if scaling:
            _scale(image, distilled, *scaling)
        buffer = io.BytesIO()
        image.save_as(buffer, enforce_file_format=True)
        yield f"{file_stem(number, class_name)}.dcm", buffer.getvalue()


def _stored(distilled: DistilledSet) -> tuple[npt.NDArray[Any], tuple[float, float] | None]:
    """Return the pixels of all images and, for one channel, (slope, intercept) from stored value to network input."""
    if distilled.images.shape[1] != 1:
        return display_pixels(distilled), None
    images = distilled.images.detach().cpu()
    # a whitened image shows nothing to the eye, and no window makes a picture of it: the picture itself is stored
    shown = distilled.normalisation.to_display(images) if distilled.normalisation.kind == "zca" else images
    values = shown.numpy()[:, 0].astype(np.float64)
    intercept = _decimal(float(values.min()))
    # a decimal string has 16 characters: rounding up keeps the brightest pixel inside the range
    slope = _decimal(max(float(values.max()) - intercept, 1e-6) / _TOP * (1 + 1e-9))
    return np.clip(np.rint((values - intercept) / slope), 0, _TOP).astype(np.uint16), (slope, intercept)


def _decimal(value: float) -> float:
    """Return `value` as a DICOM decimal string can hold it."""
    return float(DSfloat(value, auto_format=True))


def _mark(image: Dataset, distilled: DistilledSet, class_name: str, name: str, created: str) -> None:
    """Say in the header what the image is, and take out the clock of this machine."""
    day = created.replace("-", "")
    made = origin_words(distilled.recipe["init"], steps_behind(distilled.recipe))
    # an image that began as a patient's X-ray may still show it, and a draw of a small group may lie as near to one
    near = made is None or "mixture" in distilled.recipe["init"].split(", ")
    image.SyntheticData = "YES"
    image.ConversionType = "SYN"
    if distilled.images.shape[1] == 1:
        image.BodyPartExamined = "CHEST"
    else:
        image.Laterality = ""  # of an unknown part of the body: required, and empty where not known (type 2C)
    image.BurnedInAnnotation = "NO"
    image.PatientIdentityRemoved = "NO" if near else "YES"
    if not near:
        image.DeidentificationMethod = f"Synthetic image, {made}"
    made = made or "optimised from copies of real X-rays; may still show them"
    image.DerivationDescription = _text(
        f"Synthetic image, not acquired from a patient. Dataset distillation ({distilled.recipe['method']}): {made}. "
        "Research use, not for diagnosis.",
        1024,
    )
    image.ImageComments = _text(f"Synthetic; made to teach a network the class {class_name}. Not for diagnosis.", 1024)
    image.StudyDescription = _text(f"Synthetic distilled set: {name}", 64)
    image.SpecificCharacterSet = "ISO_IR 192"
    image.SeriesDate, image.SeriesTime = day, _TIME
    for date, time in (
        ("InstanceCreationDate", "InstanceCreationTime"),
        ("ContentDate", "ContentTime"),
        ("SeriesDate", "SeriesTime"),
        ("DateOfSecondaryCapture", "TimeOfSecondaryCapture"),
    ):
        if date in image:
            setattr(image, date, day)
            setattr(image, time, _TIME)
    for equipment in image.ContributingEquipmentSequence:
        if "ContributionDateTime" in equipment:
            del equipment.ContributionDateTime
    image.file_meta.ImplementationClassUID = _uid("implementation")
    image.file_meta.ImplementationVersionName = "MEDIDISTILL"


def _scale(image: Dataset, distilled: DistilledSet, slope: float, intercept: float) -> None:
    """Add modality LUT and window: stored value to network input to what the eye should see."""
    image.RescaleSlope, image.RescaleIntercept = DSfloat(slope, True), DSfloat(intercept, True)
    image.RescaleType = "US"
    kept = distilled.normalisation
    mean, std = {"fixed": (kept.mean, kept.std), "zca": (0.0, 1.0)}.get(kept.kind, (0.5, 0.25))
    image.WindowCenter = DSfloat((0.5 - mean) / std, True)
    image.WindowWidth = DSfloat(1 / std, True)
    image.VOILUTFunction = "LINEAR_EXACT"


def _uid(*parts: object) -> UID:
    """Return a UID below 2.25 (ITU-T X.667), the same for the same parts."""
    digest = hashlib.sha256("\x1f".join(map(str, ("medidistill bundle", *parts))).encode()).digest()
    return UID(f"2.25.{uuid.UUID(bytes=digest[:16], version=5).int}")


def _text(value: str, length: int) -> str:
    """Return `value` as a DICOM text may hold it: no backslash, no control character, not too long."""
    return "".join(c if c.isprintable() and c != "\\" else " " for c in value)[:length].strip()
