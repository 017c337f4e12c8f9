"""Where images come from: layouts, archives, discs; hostile ones are refused before anything is written."""

from __future__ import annotations

import os
import shutil
import stat
import zipfile
from pathlib import Path

import numpy as np
import openpyxl
import pytest
from PIL import Image
from pydicom.data import get_testdata_file

from medidistill.config import IngestConfig
from medidistill.errors import IngestError
from medidistill.ingest import ingest
from medidistill.ingest.demographics import parse_age, parse_sex
from medidistill.ingest.file_discovery import scan_folder
from medidistill.ingest.sources import find_records, workspace
from medidistill.ingest.sources.archive import check_archive, unpack

CONFIG = IngestConfig(image_size=16)


def png(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (20, 20), dtype=np.uint8)).save(path)


def classes(folder, count=4):
    for k, label in enumerate(("cat", "dog")):
        for i in range(count):
            png(folder / label / f"{i}.png", 100 * k + i)


def pack(folder, path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder.parent))
    return path


def found(source, tmp_path, config=CONFIG):
    with workspace(tmp_path / "private") as place:
        return find_records(source, config, place)


@pytest.mark.parametrize(
    ("text", "years"),
    [("54", 54), ("54.5", 54.5), ("054Y", 54), ("018M", 1.5), ("014D", 0.04), ("", None), ("411", None), ("x", None)],
)
def test_ages(text, years):
    assert parse_age(text) == years


def test_sexes():
    assert [parse_sex(text) for text in ("F", "male ", "Other", "", "unknown")] == ["F", "M", "O", "", ""]


def test_a_circle_of_links_ends_and_hidden_files_are_left_out_on_request(tmp_path):
    png(tmp_path / "a/1.png", 0)
    png(tmp_path / "__MACOSX/._1.png", 0)
    (tmp_path / "a/.DS_Store").write_bytes(b"")
    (tmp_path / "a/back").symlink_to(tmp_path)
    (tmp_path / "a/self").symlink_to(tmp_path / "a/self")
    listing = scan_folder(tmp_path, skip_system=True)
    assert [path.relative_to(tmp_path).as_posix() for path in listing.files] == ["a/1.png"]
    assert [(one.path.name, one.reason) for one in listing.refused] == [
        ("self", "a symbolic link that leads to itself")
    ]
    assert len(scan_folder(tmp_path).files) == 3


def test_covid_19_radiography_layout(tmp_path):
    for k, label in enumerate(("COVID", "Normal", "Viral Pneumonia")):
        book = openpyxl.Workbook()
        book.active.append(["FILE NAME", "FORMAT", "SIZE", "URL"])
        for i in range(1, 5):
            png(tmp_path / label / "images" / f"{label}-{i}.png", 100 * k + i)
            png(tmp_path / label / "masks" / f"{label}-{i}.png", 5000 + 100 * k + i)
            url = "https://www.kaggle.com/c/rsna/data?x=1" if i % 2 else "https://github.com/armiro/COVID-CXNet"
            book.active.append([f"{label.upper()}-{i}", "PNG", "256*256", url])
        book.save(tmp_path / f"{label}.metadata.xlsx")
    result = ingest(tmp_path, CONFIG)
    assert result.train.class_names == ("COVID", "Normal", "Viral Pneumonia")
    assert len(result.manifest) == 12
    assert not any("masks" in key for key in result.manifest.key)
    assert set(result.manifest.site) == {"kaggle.com/c/rsna/data", "github.com/armiro/COVID-CXNet"}
    (tmp_path / "COVID.metadata.xlsx").write_bytes(b"PK nonsense")
    with pytest.raises(IngestError, match=r"COVID.metadata.xlsx: not a readable zip"):
        ingest(tmp_path, CONFIG)


def medmnist(path, count=6, **change):
    rng, arrays = np.random.default_rng(0), {}
    for split in ("train", "val", "test"):
        arrays[f"{split}_images"] = rng.integers(0, 255, (count, 28, 28), dtype=np.uint8)
        arrays[f"{split}_labels"] = (np.arange(count) % 2)[:, None]
    np.savez_compressed(path, **{**arrays, **change})
    return path, arrays


def test_medmnist_npz_keeps_splits_pixels_and_names(tmp_path):
    path, arrays = medmnist(tmp_path / "pneumoniamnist.npz")
    result = ingest(path, IngestConfig(image_size=28))
    assert result.train.class_names == ("normal", "pneumonia")
    assert [len(part) for part in (result.train, result.val, result.test)] == [6, 6, 6]
    assert result.val.labels.tolist() == [0, 1] * 3
    expected = arrays["val_images"].astype(np.float32) / 255
    np.testing.assert_allclose(result.val.images[:, 0].numpy(), expected, atol=1e-6)
    (tmp_path / "in").mkdir()
    path.rename(tmp_path / "in/mine.npz")
    assert ingest(tmp_path / "in", IngestConfig(image_size=28)).train.class_names == ("0", "1")
    named = ingest(tmp_path / "in/mine.npz", IngestConfig(image_size=28, classes=("well", "ill")))
    assert named.val.labels.tolist() == [0, 1] * 3
    assert named.val.class_names == ("well", "ill")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"val_labels": np.zeros((6, 14), int)}, "several labels"),
        ({"test_images": np.zeros((6, 28, 28))}, "test_images is float64"),
        ({"train_labels": np.full((6, 1), 7)}, "class 7 of train has no name"),
        ({"train_images": np.array([{}] * 6)}, "train cannot be read"),
    ],
)
def test_other_npz_is_refused(tmp_path, change, message):
    path, _ = medmnist(tmp_path / "a.npz", **change)
    with pytest.raises(IngestError, match=message):
        ingest(path, IngestConfig(image_size=16, classes=("a", "b")))


def test_zip_of_a_folder_reads_like_the_folder_and_leaves_nothing(tmp_path):
    classes(tmp_path / "in/cohort")
    archive = pack(tmp_path / "in/cohort", tmp_path / "cohort.zip")
    folder, packed = ingest(tmp_path / "in/cohort", CONFIG), ingest(archive, CONFIG, folder=tmp_path / "private")
    assert packed.digest == folder.digest
    assert list((tmp_path / "private").iterdir()) == []


def test_the_place_of_an_archive_is_closed_and_cleared(tmp_path):
    (tmp_path / "private/unpacked/old").mkdir(parents=True)
    with workspace(tmp_path / "private") as place:
        assert list(place.iterdir()) == []
        assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert not place.exists()


def entry(name, mode=0):
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


@pytest.mark.parametrize(
    "member",
    [
        entry("../escape.png"),
        entry("/etc/escape.png"),
        entry("a/../../escape.png"),
        entry("..\\escape.png"),
        entry("C:/escape.png"),
        entry("link", stat.S_IFLNK | 0o777),
        entry("pipe", stat.S_IFIFO | 0o600),
    ],
)
def test_zip_that_leads_out_or_holds_links_is_refused_before_a_byte_is_written(tmp_path, member):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("cat/1.png", b"x")
        archive.writestr(member, b"/etc/passwd")
    with pytest.raises(IngestError, match=r"entry 2 of the archive .* refused as a whole") as caught:
        unpack(tmp_path / "a.zip", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert "escape" not in str(caught.value)


def test_zip_with_a_name_twice_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("cat/1.png", b"x")
        archive.writestr("CAT/1.png", b"y")
    with pytest.raises(IngestError, match="there twice"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


def test_bomb_is_refused_by_its_claim_and_by_what_comes_out(tmp_path):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", bytes(80 << 20))
    with pytest.raises(IngestError, match="more than 200 times as much"):
        check_archive(path)
    # the same with a claim of 10 bytes in both headers
    real, lie = (80 << 20).to_bytes(4, "little"), (10).to_bytes(4, "little")
    path.write_bytes(path.read_bytes().replace(real, lie))
    with pytest.raises(IngestError, match=r"entry 1 of the archive is (larger than it claims|damaged)"):
        unpack(path, tmp_path / "out")
    assert sum(file.stat().st_size for file in (tmp_path / "out").rglob("*")) <= 10


@pytest.mark.parametrize("damage", [lambda data: data[:-30], lambda data: data[:60] + b"\xff" * 40 + data[100:]])
def test_damaged_zip_is_one_line(tmp_path, damage):
    classes(tmp_path / "in/cohort")
    path = pack(tmp_path / "in/cohort", tmp_path / "a.zip")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(IngestError) as caught:
        ingest(path, CONFIG)
    assert "\n" not in str(caught.value)


def test_any_other_file_is_refused(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"x" * 600)
    with pytest.raises(IngestError, match="neither zip, MedMNIST npz nor DICOMDIR"):
        ingest(tmp_path / "a.tar", CONFIG)


@pytest.fixture
def disc(tmp_path):
    """pydicom's example disc, its folders named in the other case, as some systems mount a disc."""
    source = Path(get_testdata_file("DICOMDIR")).parent
    (tmp_path / "disc").mkdir()
    for path in source.iterdir():
        if path.is_dir():
            shutil.copytree(path, tmp_path / "disc" / path.name.lower())
        else:
            shutil.copy(path, tmp_path / "disc" / path.name)
    return tmp_path / "disc"


def label(disc, *rows):
    (disc / "labels.csv").write_text("path,label\n" + "".join(f"{path},{name}\n" for path, name in rows))


def test_dicomdir_reads_what_it_lists(disc, tmp_path):
    label(disc, ("77654033/CR1/6154", "a"), ("77654033/CR2/6247", "b"), ("TINY_ALPHA/nothing", "b"))
    records = found(disc / "DICOMDIR", tmp_path)
    assert [record.key for record in records.records] == ["77654033/CR1/6154", "77654033/CR2/6247"]
    assert ("TINY_ALPHA/nothing", "no such file") in [(entry.key, entry.reason) for entry in records.quarantine]


def test_dicomdir_sets_aside_what_it_does_not_list_or_have(disc, tmp_path):
    (disc / "labels.csv").write_text("path,label\nextra,a\n")
    (disc / "extra").write_bytes((disc / "77654033/CR1/6154").read_bytes())
    shutil.rmtree(disc / "98892003")
    reasons = {entry.key: entry.reason for entry in found(disc / "DICOMDIR", tmp_path).quarantine}
    assert reasons.pop("extra") == "not listed in the DICOMDIR"
    assert set(reasons.values()) == {"listed in the DICOMDIR, but not there"}
    assert all(key.startswith("98892003/") for key in reasons)


def test_dicomdir_needs_labels_and_must_be_whole(disc, tmp_path):
    with pytest.raises(IngestError, match="no such table"):
        ingest(disc / "DICOMDIR", CONFIG)
    label(disc, ("77654033/CR1/6154", "a"))
    broken = disc / "broken"
    broken.write_bytes((disc / "DICOMDIR").read_bytes()[:700])
    with pytest.raises(IngestError, match=r"unreadable DICOMDIR|lists no files"):
        ingest(broken, CONFIG)


def test_sex_and_age_come_from_the_table_and_on_request_from_the_header(tmp_path, save):
    rows = ["path,label,sex,age"]
    for n in range(8):
        pixels = np.random.default_rng(n).integers(0, 4095, (20, 20))
        save(tmp_path / f"{n}", pixels, number=n, PatientSex="F", PatientAge="054Y")
        rows.append(f"{n},{'cat' if n % 2 else 'dog'},{'male' if n < 4 else ''},{'61' if n < 4 else ''}")
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    table = ingest(tmp_path, IngestConfig(image_size=16)).manifest
    assert table.sex.tolist() == ["M"] * 4 + [""] * 4
    result = ingest(tmp_path, IngestConfig(image_size=16, demographics="header"))
    assert result.manifest.sex.tolist() == ["M"] * 4 + ["F"] * 4
    assert result.manifest.age.tolist() == [61.0] * 4 + [54.0] * 4
    train = dict(zip(result.train.keys, zip(result.train.sexes, result.train.ages, strict=True), strict=True))
    assert all(value == (("M", 61.0) if int(key) < 4 else ("F", 54.0)) for key, value in train.items())
    chosen = result.train.select([1])
    assert (chosen.sexes[0], chosen.ages[0]) == train[chosen.keys[0]]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_closed_folder_is_quarantined(tmp_path):
    classes(tmp_path)
    png(tmp_path / "cat/closed/1.png", 9)
    (tmp_path / "cat/closed").chmod(0)
    try:
        entries = found(tmp_path, tmp_path.parent / "w").quarantine
    finally:
        (tmp_path / "cat/closed").chmod(0o700)
    assert [entry.key for entry in entries] == ["cat/closed"]
