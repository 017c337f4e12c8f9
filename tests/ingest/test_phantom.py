from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd
import pydicom
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from medidistill.config import IngestConfig, PhantomConfig
from medidistill.errors import ConfigError
from medidistill.ingest import generate_phantom, ingest
from medidistill.ingest.anatomy import CLASSES
from medidistill.ingest.dicom import read_image

CONFIG = PhantomConfig(patients_per_class=30, images_per_patient=2, size=96, monochrome1_share=0.4, seed=3)


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    return generate_phantom(tmp_path_factory.mktemp("phantoms") / "new", CONFIG)


@pytest.fixture(scope="module")
def result(phantoms):
    return ingest(phantoms, IngestConfig(image_size=32, val_fraction=0.1, test_fraction=0.4))


def files_of(folder):
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*.*")}


def test_same_configuration_same_bytes(tmp_path):
    config = PhantomConfig(patients_per_class=5, images_per_patient=2, size=64)
    one, two = (files_of(generate_phantom(tmp_path / name, config)) for name in "ab")
    assert one == two
    other = PhantomConfig(patients_per_class=5, images_per_patient=2, size=64, seed=1)
    assert files_of(generate_phantom(tmp_path / "c", other)) != one


def test_headers_say_what_they_are(phantoms):
    table = pd.read_csv(phantoms / "labels.csv")
    assert list(table.columns) == ["path", "label", "patient_id", "site", "sex", "age"]
    assert table.groupby("label").patient_id.nunique().to_dict() == dict.fromkeys(CLASSES, 30)
    datasets = [pydicom.dcmread(phantoms / path) for path in table.path]
    for dataset in datasets:
        assert dataset.SyntheticData == "YES"
        assert dataset.BurnedInAnnotation == "NO"
        assert str(dataset.PatientName).startswith("PHANTOM^")
        assert dataset.SOPClassUID.name == "Digital X-Ray Image Storage - For Presentation"
        assert (dataset.Modality, dataset.BodyPartExamined, dataset.ViewPosition) == ("DX", "CHEST", "PA")
        assert (dataset.BitsAllocated, dataset.BitsStored) == (16, 12)
        assert dataset.pixel_array.max() <= 4095
        for uid in (dataset.SOPInstanceUID, dataset.StudyInstanceUID, dataset.SeriesInstanceUID):
            assert uid.startswith("2.25.")
            assert uid.is_valid
    assert len({dataset.SOPInstanceUID for dataset in datasets}) == len(datasets)
    share = np.mean([dataset.PhotometricInterpretation == "MONOCHROME1" for dataset in datasets])
    assert 0.2 < share < 0.6
    assert {dataset.VOILUTFunction for dataset in datasets} == {"LINEAR", "LINEAR_EXACT", "SIGMOID"}


def test_monochrome1_shows_the_same_picture(tmp_path):
    settings = {"patients_per_class": 5, "images_per_patient": 1, "size": 64}
    folders = [generate_phantom(tmp_path / str(s), PhantomConfig(monochrome1_share=s, **settings)) for s in (0.0, 1.0)]
    for path in pd.read_csv(folders[0] / "labels.csv").path:
        np.testing.assert_allclose(read_image(folders[1] / path), read_image(folders[0] / path), atol=1e-5)


def test_it_looks_like_a_frontal_film(result):
    mean = result.train.images[result.train.labels == CLASSES.index("normal"), 0].mean(0)
    air, lungs = mean[14:18, :1].mean(), (mean[10:16, 7:10].mean() + mean[10:16, 22:25].mean()) / 2
    spine, belly = mean[10:16, 15:17].mean(), mean[28:, 12:20].mean()
    assert lungs + 0.3 < spine
    assert lungs + 0.3 < belly
    # the heart lies on the right of the picture
    assert mean[19:22, 20].mean() > mean[19:22, 11].mean() + 0.1
    assert air < spine


def accuracy(train, train_labels, test, test_labels):
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500))
    return model.fit(train, train_labels).score(test, test_labels)


def test_classes_can_be_learned_but_not_from_the_mean_grey_level(result):
    train, test = result.train, result.test
    pixels = [part.images.flatten(1).numpy() for part in (train, test)]
    assert accuracy(pixels[0], train.labels, pixels[1], test.labels) > 0.65
    grey = [p.mean(1, keepdims=True) for p in pixels]
    assert accuracy(grey[0], train.labels, grey[1], test.labels) < 0.6


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(ConfigError, match="is not empty"):
        generate_phantom(tmp_path, CONFIG)
    with pytest.raises(ConfigError, match="is a file"):
        generate_phantom(tmp_path / "mine.txt", CONFIG)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_progress_goes_to_stderr(tmp_path, capsys):
    generate_phantom(tmp_path / "a", PhantomConfig(patients_per_class=5, size=64), progress=True)
    assert "drawing phantoms" in capsys.readouterr().err
