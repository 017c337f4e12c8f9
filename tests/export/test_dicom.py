"""The DICOM part, checked against the module tables of PS3.3 as highdicom carries them, and by its own reader."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from itertools import groupby
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from highdicom._standard_utils import get_iod_module_map, get_module_attribute_map
from PIL import Image
from pydicom.pixels import apply_modality_lut, apply_voi_lut

from medidistill.distilled_set import Normalisation
from medidistill.normalisation import fit_normalisation

from .bundle_example import make_set, striped, write

REAL = {"method": "mtt", "init": "real"}
_TOOLS = Path(sys.executable).parent  # dicom3tools, a dependency of the tests


def dicom3tools(name: str, *files: Path) -> list[str]:
    """Return what a checker of dicom3tools complains of: its lines but the name of the object."""
    done = subprocess.run([_TOOLS / name, *files], capture_output=True, text=True, check=False)
    return [line for line in (done.stdout + done.stderr).splitlines() if re.match(r"\s*(Error|Warning)", line)]


def images_of(folder: Path) -> list[pydicom.Dataset]:
    return [pydicom.dcmread(path) for path in sorted((folder / "dicom").iterdir())]


@pytest.mark.parametrize("channels", [1, 3])
def test_every_required_attribute_of_a_secondary_capture_is_there(tmp_path: Path, channels: int) -> None:
    image = images_of(write(tmp_path / "b", make_set(channels)))[0]
    attributes, checked = get_module_attribute_map(), 0
    for module in get_iod_module_map()["secondary-capture-image"]:
        if module["usage"] != "M":
            continue
        for one in attributes[module["key"]]:
            if one["path"] or one["type"] not in ("1", "2"):
                continue
            checked += 1
            assert one["keyword"] in image, (module["key"], one["keyword"])
            if one["type"] == "1":
                assert image[one["keyword"]].value not in (None, ""), one["keyword"]
    assert checked > 20


@pytest.mark.filterwarnings("error::UserWarning:pydicom")
def test_the_marks_say_what_it_is(written: Path) -> None:
    images = images_of(written)
    for image in images:
        assert image.SOPClassUID == pydicom.uid.SecondaryCaptureImageStorage
        assert (image.SyntheticData, image.BurnedInAnnotation, image.PatientIdentityRemoved) == ("YES", "NO", "YES")
        assert list(image.ImageType[:2]) == ["DERIVED", "SECONDARY"]
        assert image.PatientID.startswith("SYN-")
        assert str(image.PatientName).startswith("PHANTOM^")
        assert "not acquired from a patient" in image.DerivationDescription
        codes = [one.PurposeOfReferenceCodeSequence[0].CodeValue for one in image.ContributingEquipmentSequence]
        assert "109100" in codes
        for absent in ("SourceImageSequence", "ReferencedImageSequence", "InstitutionName", "OperatorsName"):
            assert absent not in image
        assert image.PatientBirthDate == ""
    for keyword, count in (("SOPInstanceUID", 9), ("SeriesInstanceUID", 3), ("StudyInstanceUID", 1)):
        assert len({image[keyword].value for image in images}) == count


@pytest.mark.parametrize(
    "case",
    ["per_image", "fixed", "zca", "real start", "awkward names"],
)
def test_dciodvfy_has_nothing_to_say(tmp_path: Path, case: str) -> None:
    kind = case if case in ("fixed", "zca") else "per_image"
    normalisation = fit_normalisation(kind, 0.5, 0.25, striped(60, seed=2)[0])
    if case == "awkward names":
        distilled = make_set(class_names=("a\\b\n" + "x" * 80, "Ünïcode", "日本"))
    else:
        changes: dict[str, object] = {"recipe": REAL} if case == "real start" else {}
        distilled = make_set(normalisation=normalisation, **changes)
    files = sorted((write(tmp_path / "b", distilled, name="N\\ame " * 30) / "dicom").iterdir())
    assert {file.name: dicom3tools("dciodvfy", file) for file in files} == {file.name: [] for file in files}
    assert dicom3tools("dcentvfy", *files) == []


def test_of_colour_images_it_is_left_open_which_part_of_the_body_they_show(tmp_path: Path) -> None:
    files = (write(tmp_path / "b", make_set(3, normalisation=Normalisation("fixed"))) / "dicom").iterdir()
    said = {line for file in files for line in dicom3tools("dciodvfy", file)}
    assert [line.partition(" - ")[2][:49] for line in said] == ["is only permitted to be empty when actually unkno"]


def test_dciodvfy_would_notice(written: Path, tmp_path: Path) -> None:
    image = images_of(written)[0]
    del image.BodyPartExamined
    image.PatientSex = "X"
    image.save_as(tmp_path / "wrong.dcm")
    said = "\n".join(dicom3tools("dciodvfy", tmp_path / "wrong.dcm"))
    assert "Laterality" in said
    assert "PatientSex" in said or "Patient's Sex" in said


@pytest.mark.slow
def test_dicom_validator_has_nothing_to_say(written: Path) -> None:
    program, standard = shutil.which("validate_iods"), os.environ.get("MEDIDISTILL_DICOM_STANDARD")
    if not program or not standard:
        pytest.skip("needs dicom-validator, and an edition of the standard in the folder MEDIDISTILL_DICOM_STANDARD")
    command = [program, "--standard-path", standard, "--edition", "local", written / "dicom"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_viewers_show_each_class_as_a_series_in_the_order_of_the_set(tmp_path: Path) -> None:
    # labels that are not sorted: what a merged set has
    distilled = make_set(labels=torch.tensor([2, 0, 1, 0, 0, 2, 1, 2, 1]))
    files = sorted((write(tmp_path / "b", distilled) / "dicom").iterdir())
    images = [pydicom.dcmread(file) for file in files]
    for image in images:
        # nothing that a viewer would sort by before the Instance Number
        for absent in ("ImagePositionPatient", "SliceLocation", "AcquisitionNumber", "FrameOfReferenceUID"):
            assert absent not in image
        assert (image.BodyPartExamined, image.ConversionType) == ("CHEST", "SYN")
        assert (image.SeriesDate, image.SeriesTime) == (image.StudyDate, image.StudyTime)
    by_series = sorted(range(9), key=lambda i: (images[i].SeriesNumber, images[i].InstanceNumber))
    series = [list(group) for _, group in groupby(by_series, key=lambda i: images[i].SeriesInstanceUID)]
    assert [[int(images[i].InstanceNumber) for i in group] for group in series] == [[1, 2, 3]] * 3
    # file names count through the set, so their order within a class is that of the set
    assert all(group == sorted(group) for group in series)
    told = [images[group[0]].SeriesDescription.rpartition(" ")[2] for group in series]
    assert told == ["COVID-19", "Normal", "other"]


def test_images_from_real_ones_do_not_claim_a_removed_identity(tmp_path: Path) -> None:
    image = images_of(write(tmp_path / "b", make_set(recipe=REAL)))[0]
    assert image.PatientIdentityRemoved == "NO"
    assert "DeidentificationMethod" not in image
    assert "may still show them" in image.DerivationDescription


@pytest.mark.parametrize("init", ["mixture", "noise, mixture"])
def test_draws_of_groups_of_patients_do_not_claim_a_removed_identity(tmp_path: Path, init: str) -> None:
    image = images_of(write(tmp_path / "b", make_set(recipe={**REAL, "init": init})))[0]
    assert image.PatientIdentityRemoved == "NO"
    assert "DeidentificationMethod" not in image
    assert "draws of Gaussians of patient groups" in image.DerivationDescription


@pytest.mark.parametrize("kind", ["per_image", "fixed", "zca"])
def test_stored_values_give_back_network_input_and_picture(tmp_path: Path, kind: str) -> None:
    distilled = make_set(normalisation=fit_normalisation(kind, 0.5, 0.25, striped(60, seed=2)[0]))
    folder = write(tmp_path / "b", distilled)
    stored = distilled.normalisation.to_display(distilled.images) if kind == "zca" else distilled.images
    step = float(stored.max() - stored.min()) / 65535
    pictures = sorted((folder / "png").glob("*.png"))
    for image, tensor, picture in zip(images_of(folder), stored, pictures, strict=True):
        values = apply_modality_lut(image.pixel_array, image)
        assert np.abs(values - tensor[0].numpy()).max() <= step
        shown = np.asarray(apply_voi_lut(values, image), dtype=np.float64)
        # pydicom maps the window onto the range of the stored values after the rescale
        low = float(image.RescaleIntercept)
        high = low + 65535 * float(image.RescaleSlope)
        grey = (shown - low) / (high - low) * 255
        assert np.abs(grey - np.asarray(Image.open(picture))).max() <= 1


def test_colour_images_are_eight_bit(tmp_path: Path) -> None:
    distilled = make_set(3, normalisation=Normalisation("fixed"))
    image = images_of(write(tmp_path / "b", distilled))[0]
    assert (image.PhotometricInterpretation, image.BitsStored) == ("RGB", 8)
    assert "RescaleSlope" not in image


def test_names_from_outside_fit_their_elements(tmp_path: Path) -> None:
    names = ("a\\b\n" + "x" * 80, "Ünïcode", "日本")
    folder = write(tmp_path / "b", make_set(class_names=names), name="N\\ame " * 30)
    images = images_of(folder)
    assert all(len(image.SeriesDescription) <= 64 and "\\" not in image.SeriesDescription for image in images)
    assert "Ünïcode" in images[1].SeriesDescription
    assert len({path.name for path in (folder / "dicom").iterdir()}) == 9


def test_a_constant_image_can_be_stored(tmp_path: Path) -> None:
    image = images_of(write(tmp_path / "b", make_set(images=torch.full((9, 1, 16, 16), 0.3))))[0]
    assert np.abs(apply_modality_lut(image.pixel_array, image) - 0.3).max() < 1e-5
