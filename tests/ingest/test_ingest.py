from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from medidistill.config import IngestConfig
from medidistill.errors import ConfigError, IngestError, QuarantineError, ResourceError
from medidistill.ingest import ingest
from medidistill.ingest.manifest import MANIFEST_COLUMNS
from medidistill.ingest.sources import hash_patient

from .cohorts import COLUMNS, cohort, png, table


@pytest.fixture
def config():
    return IngestConfig(image_size=16)


def patients_of(part):
    return set(part.patient_ids)


def test_split_is_by_patient_stratified_and_complete(tmp_path, config):
    cohort(tmp_path, patients=10, films=3)
    result = ingest(tmp_path, IngestConfig(image_size=16, val_fraction=0.2, test_fraction=0.3))
    assert [len(p) for p in (result.train, result.val, result.test)] == [30, 12, 18]
    assert result.test.counts() == {"cat": 9, "dog": 9}
    assert not patients_of(result.train) & patients_of(result.test)
    assert not patients_of(result.train) & patients_of(result.val)
    assert not patients_of(result.val) & patients_of(result.test)
    assert result.train.images.shape == (30, 1, 16, 16)
    assert result.train.images.dtype == torch.float32
    assert type(result.train.images) is torch.Tensor
    assert tuple(result.manifest.columns) == MANIFEST_COLUMNS
    assert result.normalisation.kind == "per_image"


def test_raw_patient_names_reach_neither_table_nor_result(tmp_path, config):
    cohort(tmp_path)
    result = ingest(tmp_path, config)
    assert "Doe" not in result.manifest.to_csv()
    assert hash_patient("PHANTOM^cat^0") in set(result.manifest.patient_id)
    assert all(patient.startswith("p-") and len(patient) == 14 for patient in result.train.patient_ids)


def test_same_input_gives_the_same_result_and_the_seed_moves_the_split(tmp_path, config):
    cohort(tmp_path)
    one, two = ingest(tmp_path, config), ingest(tmp_path, config)
    assert one.digest == two.digest
    assert torch.equal(one.train.images, two.train.images)
    assert one.train.keys == two.train.keys
    other = [ingest(tmp_path, IngestConfig(image_size=16, seed=seed)) for seed in (1, 2, 3)]
    assert any(result.test.keys != one.test.keys for result in other)
    assert len({result.digest for result in (one, *other)}) == 4


def test_row_order_does_not_matter_but_bytes_labels_and_config_do(tmp_path, config):
    rows = cohort(tmp_path, split=True)
    before = ingest(tmp_path, config).digest
    table(tmp_path, rows[::-1])
    assert ingest(tmp_path, config).digest == before
    assert ingest(tmp_path, IngestConfig(image_size=17)).digest != before
    table(tmp_path, [*rows[:-1], (*rows[-1][:1], "cat", *rows[-1][2:])])
    assert ingest(tmp_path, config).digest != before
    table(tmp_path, rows)
    png(tmp_path / rows[0][0], seed=99)
    assert ingest(tmp_path, config).digest != before


def test_given_split_is_used(tmp_path, config):
    rows = cohort(tmp_path, split=True)
    result = ingest(tmp_path, config)
    assert {row[0] for row in rows if row[3] == "val"} == set(result.val.keys)


def test_given_split_that_shares_patients(tmp_path, config):
    rows = cohort(tmp_path, split=True)
    rows[0] = (*rows[0][:3], "test")
    table(tmp_path, rows)
    with pytest.raises(IngestError, match="1 of 12 patients have images in more than one split") as caught:
        ingest(tmp_path, config)
    # a hash of a number of seven digits is undone in seconds
    assert hash_patient("PHANTOM^cat^0") not in str(caught.value)
    (line,) = caught.value.private
    assert line.startswith(hash_patient("PHANTOM^cat^0"))
    assert f"{rows[0][0]} in test" in line


def test_area_resize_and_centre_crop(tmp_path, config):
    cohort(tmp_path)
    # 32 x 48: the central 32 columns count; each pixel of the result is the mean of 2 x 2
    means = np.arange(256).clip(10, 245).reshape(16, 16)
    values = np.zeros((32, 48), np.uint8)
    values[:, 8:40] = np.kron(means, np.ones((2, 2))) + np.tile([[-7, 3], [9, -5]], (16, 16))
    Image.fromarray(values).save(tmp_path / "cat/0_0.png")
    result = ingest(tmp_path, config)
    part = next(p for p in (result.train, result.val, result.test) if "cat/0_0.png" in p.keys)
    picture = part.images[part.keys.index("cat/0_0.png"), 0]
    torch.testing.assert_close(picture, torch.tensor(means / 255, dtype=torch.float32), rtol=0, atol=1e-6)
    row = result.manifest.set_index("key").loc["cat/0_0.png"]
    assert (row.width, row.height) == (48, 32)


def test_class_per_folder_and_own_patient_for_each_file(tmp_path, config):
    for label in ("cat", "dog"):
        for i in range(5):
            png(tmp_path / label / "deep" / f"{i}.png", seed=i + 10 * (label == "dog"))
    (tmp_path / "cat" / "DICOMDIR").write_bytes(b"x")
    (tmp_path / "cat" / ".hidden").write_bytes(b"x")
    result = ingest(tmp_path, config)
    assert len(result.manifest) == 10
    assert result.manifest.patient_id.nunique() == 10
    assert not result.quarantine


def test_dicom_patients_come_from_the_header(tmp_path, config, save):
    rng = np.random.default_rng(0)
    for label in ("cat", "dog"):
        for p in range(4):
            for film in range(2):
                number = p + 10 * (label == "dog")
                pixels = rng.integers(0, 4095, (20, 20))
                save(tmp_path / label / f"{p}-{film}", pixels, number=number)
    result = ingest(tmp_path, config)
    assert result.manifest.patient_id.nunique() == 8
    assert hash_patient("PHANTOM-13") in set(result.manifest.patient_id)


@pytest.mark.parametrize("column", ["sop_instance_uid", "accession_number"])
def test_rows_keyed_on_dicom_identifiers(tmp_path, config, save, column):
    rows = []
    for n in range(1, 9):
        pixels = np.random.default_rng(n).integers(0, 4095, (20, 20))
        save(tmp_path / "studies" / f"IM{n}", pixels, number=n, AccessionNumber=f"ACC{n}")
        rows.append((f"2.25.{n}" if column == "sop_instance_uid" else f"ACC{n}", "cat" if n % 2 else "dog"))
    table(tmp_path, [*rows, ("ACC99", "cat")], columns=(column, "label"))
    result = ingest(tmp_path, IngestConfig(image_size=16, max_quarantine=0.2))
    assert dict(zip(result.manifest.key, result.manifest.label, strict=True)) == {
        f"studies/IM{n}": "cat" if n % 2 else "dog" for n in range(1, 9)
    }
    assert [(q.key, q.reason) for q in result.quarantine] == [("labels.csv line 10", f"no file with this {column}")]


def test_disk_cache_is_closed_to_others_and_follows_the_files(tmp_path):
    rows = cohort(tmp_path / "in")
    config, cache = IngestConfig(image_size=16, cache="disk"), tmp_path / "cache"
    first = ingest(tmp_path / "in", config, folder=cache)
    assert stat.S_IMODE((cache / "images").stat().st_mode) == 0o700
    assert len(list((cache / "images").iterdir())) == 24
    assert torch.equal(first.train.images, ingest(tmp_path / "in", config, folder=cache).train.images)
    memory = ingest(tmp_path / "in", IngestConfig(image_size=16))
    assert torch.equal(first.train.images, memory.train.images)
    smaller = ingest(tmp_path / "in", IngestConfig(image_size=17, cache="disk"), folder=cache)
    assert smaller.train.images.shape[-1] == 17
    png(tmp_path / "in" / rows[0][0], seed=77)
    again = ingest(tmp_path / "in", config, folder=cache)
    fresh = ingest(tmp_path / "in", IngestConfig(image_size=16))
    assert torch.equal(again.train.images, fresh.train.images)


def test_disk_cache_needs_a_folder_that_can_be_written(tmp_path):
    cohort(tmp_path / "in")
    config = IngestConfig(image_size=16, cache="disk")
    with pytest.raises(ConfigError, match="cache='disk'"):
        ingest(tmp_path / "in", config)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ResourceError, match="cannot write"):
        ingest(tmp_path / "in", config, folder=tmp_path / "file")


def drop_column(rows):
    return [(row[0], row[2]) for row in rows]


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        (lambda f, r: table(f, drop_column(r), ("path", "lable")), {}, r"needs a column label \(did you mean 'lable'"),
        (lambda f, r: table(f, [("x", "cat")], ("image", "label")), {}, "needs a column path"),
        (lambda f, r: table(f, []), {}, "has no rows"),
        (lambda f, r: (f / "labels.csv").write_bytes(b""), {}, "not a readable CSV"),
        (
            lambda f, r: (f / "labels.csv").write_bytes(b"path,label\n\xff\xfe,\xe9\n"),
            {},
            "not a readable CSV in UTF-8",
        ),
        (
            lambda f, r: table(f, [(*x[:3], "train") for x in r], COLUMNS[:3]),
            {},
            "not a readable CSV: line 2 has 4 cells, the header has 3",
        ),
        (lambda f, r: table(f, [*r, (*r[0], "more")]), {}, "not a readable CSV"),
        (lambda f, r: table(f, [*r, r[0]]), {}, r"1 file is listed more than once \(lines 2, 26\)"),
        (lambda f, r: None, {"classes": ("cat", "dgo")}, r"label 'dog' of 12 .*did you mean 'dgo'"),
        (lambda f, r: None, {"classes": ("cat", "dog", "eel")}, "class 'eel' has no usable images"),
        (lambda f, r: table(f, [x for x in r if x[1] == "cat"]), {}, "only one class"),
        (lambda f, r: table(f, [x for x in r if "^0" in x[2] or x[1] == "cat"]), {}, "class 'dog' has 1 patient: .* 3"),
        (lambda f, r: None, {"labels": "label.csv"}, r"no such table of labels \(did you mean 'labels.csv'"),
        (lambda f, r: table(f, [(*x[:3], "tets") for x in r]), {}, r"split 'tets' .*did you mean 'test'"),
        (lambda f, r: table(f, [(*r[0][:3], "test"), *r[1:]]), {}, "23 of 24 images have no split"),
        (
            lambda f, r: table(f, [(*x[:3], "train" if "dog" in x[0] or "^1" in x[2] else "val") for x in r]),
            {},
            "class 'cat' has no usable images in the test split",
        ),
    ],
)
def test_bad_input_is_one_line(tmp_path, change, settings, message):
    change(tmp_path, cohort(tmp_path))
    with pytest.raises(IngestError, match=message) as caught:
        ingest(tmp_path, IngestConfig(image_size=16, **settings))
    assert "\n" not in str(caught.value)
    assert "Doe" not in str(caught.value)


def test_missing_empty_and_unlabelled_folders(tmp_path, config):
    with pytest.raises(IngestError, match="no such folder"):
        ingest(tmp_path / "none", config)
    (tmp_path / "empty").mkdir()
    with pytest.raises(IngestError, match="the folder is empty"):
        ingest(tmp_path / "empty", config)
    png(tmp_path / "flat" / "a.png")
    with pytest.raises(IngestError, match="no labels"):
        ingest(tmp_path / "flat", config)
    with pytest.raises(IngestError, match="is a file"):
        ingest(tmp_path / "flat" / "a.png", config)


def test_links_to_an_archive(tmp_path, config):
    rows = cohort(tmp_path / "archive")
    (tmp_path / "in").mkdir()
    (tmp_path / "in/cat").symlink_to(tmp_path / "archive/cat")
    (tmp_path / "in/dog").symlink_to(tmp_path / "archive/dog")
    table(tmp_path / "in", rows)
    with pytest.raises(QuarantineError, match="24 x a symbolic link that leads out of the input folder"):
        ingest(tmp_path / "in", config)
    allowed = IngestConfig(image_size=16, follow_links=(str(tmp_path / "archive"),))
    assert len(ingest(tmp_path / "in", allowed).manifest) == 24


def test_fractions_of_zero_leave_a_split_empty(tmp_path):
    cohort(tmp_path, patients=2)
    result = ingest(tmp_path, IngestConfig(image_size=16, val_fraction=0, test_fraction=0.4))
    assert [len(p) for p in (result.train, result.val, result.test)] == [4, 0, 4]
    assert result.val.images.shape == (0, 1, 16, 16)
    with pytest.raises(ConfigError, match="must be < 1"):
        ingest(tmp_path, IngestConfig(image_size=16, val_fraction=0.5, test_fraction=0.5))


def test_classes_set_the_order_of_labels(tmp_path):
    cohort(tmp_path)
    result = ingest(tmp_path, IngestConfig(image_size=16, classes=("dog", "cat")))
    names = [key.split("/")[0] for key in result.train.keys]
    assert [result.train.class_names[i] for i in result.train.labels.tolist()] == names
    assert result.train.class_names == ("dog", "cat")


def test_progress_goes_to_stderr(tmp_path, config, capsys):
    cohort(tmp_path)
    ingest(tmp_path, config, progress=True)
    printed = capsys.readouterr()
    assert "reading X-rays" in printed.err
    assert printed.out == ""
    ingest(tmp_path, config)
    assert capsys.readouterr().err == ""


def test_tables_are_written_for_their_owner_only(tmp_path, config):
    cohort(tmp_path / "in")
    result = ingest(tmp_path / "in", config)
    result.write_tables(tmp_path / "out")
    assert len(pd.read_csv(tmp_path / "out/manifest.csv")) == 24
    assert list(pd.read_csv(tmp_path / "out/quarantine.csv").columns) == ["key", "reason", "other"]
    assert stat.S_IMODE((tmp_path / "out/manifest.csv").stat().st_mode) == 0o600


@pytest.fixture
def data():
    folder = os.environ.get("MEDIDISTILL_DATA")
    if not folder:
        pytest.skip("MEDIDISTILL_DATA is not set: real X-rays are not here")
    return Path(folder)


@pytest.mark.slow
@pytest.mark.data
def test_real_covid_cxr(data):
    names = ("COVID-19", "Normal", "Pneumonia")
    result = ingest(data / "covid-cxr", IngestConfig(image_size=64, classes=names))
    assert [len(p) for p in (result.train, result.val, result.test)] == [1650, 241, 480]
    assert result.test.counts() == {"COVID-19": 104, "Normal": 186, "Pneumonia": 190}
    assert set(result.train.sites) == {"armiro", "hannover", "kermany", "nih"}
    assert not result.quarantine
    assert 0 <= float(result.train.images.min()) < float(result.train.images.max()) <= 1


def test_an_unknown_split_is_told_with_its_line(tmp_path, config):
    rows = cohort(tmp_path, split=True)
    rows[3] = (*rows[3][:3], "tset")
    table(tmp_path, rows)
    with pytest.raises(IngestError, match=r"^labels.csv line 5: split 'tset' is unknown: must be train, val or test"):
        ingest(tmp_path, config)
