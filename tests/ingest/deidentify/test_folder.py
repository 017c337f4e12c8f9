"""The whole job: what is written, what is set aside, what the residual check and the audit log notice."""

from __future__ import annotations

import dataclasses
import io
import os
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo
from pydicom.dataset import FileDataset
from pydicom.filewriter import dcmwrite

from medidistill.cli import main
from medidistill.errors import ConfigError, IngestError, QuarantineError, ResourceError
from medidistill.ingest import deidentify as package
from medidistill.ingest.deidentify import DeidentifyConfig, Key, deidentify_folder, locate
from medidistill.ingest.deidentify import folder as folder_module
from medidistill.ingest.deidentify.picture import foreign_chunks
from medidistill.ingest.deidentify.text import MIN_LETTERS, letters_in_row
from medidistill.ingest.silence_pydicom import silence_pydicom
from tests.support.planted import KINDS, burn_in, bytes_of, holds, plant

LAX = DeidentifyConfig(max_quarantine=1.0)


def save(dataset: FileDataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    dcmwrite(path, dataset, enforce_file_format=True)
    return path


def everything(folder: Path) -> bytes:
    """Every byte and every name below a folder."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    dicom = [bytes_of(path) for path in files if path.suffix == ".dcm"]
    names = "\n".join(path.relative_to(folder).as_posix() for path in folder.rglob("*")).encode()
    return b"\n".join([*dicom, *(path.read_bytes() for path in files), names])


def test_no_planted_value_is_in_any_byte_that_the_command_writes(
    phantoms: list[Path], key_file: Path, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    source = tmp_path / "in"
    with silence_pydicom():
        planted = [
            plant(pydicom.dcmread(phantoms[number % len(phantoms)]), kind, number, source)
            for number, kind in enumerate(KINDS)
        ]
    values = [value for one in planted for value in one.values]
    burned = pydicom.dcmread(phantoms[0])
    burn_in(burned, "PHANTOM^BURNED 1961", size=14, bottom=False)
    save(burned, source / "Phantomburned.dcm")
    (source / "Phantomnote").write_text(" ".join(values))
    (source / "Phantomtable.csv").write_text(" ".join(values))
    cut = planted[0].path.read_bytes()
    (source / "Phantomcut.dcm").write_bytes(cut[: len(cut) // 2])
    damaged = pydicom.dcmread(phantoms[1])
    damaged.add_new(0x00281056, "CS", "PHANTOMQUOTED")  # ingest's own message would quote it
    save(damaged, source / "damaged.dcm")
    recipe = tmp_path / "site.yaml"
    recipe.write_text("max_quarantine: 1.0\n")
    capfdbinary.readouterr()
    places = ["deidentify", str(source), str(tmp_path / "out"), "--key-file", str(key_file), "--recipe", str(recipe)]
    assert main([*places, "--debug"]) == 0
    said = capfdbinary.readouterr()
    assert said.out
    written = everything(tmp_path / "out") + said.out + said.err
    values += ["Phantomburned", "Phantomnote", "Phantomcut", "PHANTOMQUOTED", "correct-horse-battery"]
    assert [value for value in values if holds(written, value)] == []
    assert len(list((tmp_path / "out" / "images").rglob("*.dcm"))) == len(KINDS) - 1
    reasons = (tmp_path / "out" / "quarantine.csv").read_text()
    for reason in (
        "letters in the pixels",
        "neither DICOM nor PNG",
        "the file ends within",
        "(0018,1164)",
        "no window",
    ):
        assert reason in reasons
    assert package.verify_audit(tmp_path / "out" / "audit.jsonl", package.load_key(key_file)) == []
    assert not (tmp_path / "out" / ".checking").exists()


def test_residual_check_finds_what_the_engine_would_let_through(
    phantom: FileDataset, key: Key, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    phantom.PatientName = "Phantömsen^Zoë"
    save(phantom, tmp_path / "in" / "a.dcm")
    real = folder_module.deidentify

    def careless(*arguments: object) -> object:
        result = real(*arguments)  # type: ignore[arg-type]
        result.dataset.SoftwareVersions = "by PHANTOMSEN"
        return result

    monkeypatch.setattr(folder_module, "deidentify", careless)
    result = deidentify_folder(tmp_path / "in", tmp_path / "out", LAX, key)
    assert result.written == ()
    assert "(0018,1020)" in result.quarantine[0].reason
    assert "hant" not in result.quarantine[0].reason


def test_site_keeps_a_value_but_no_name(phantom: FileDataset, key: Key, tmp_path: Path) -> None:
    phantom.StationName, phantom.PatientName = "ROOM-EAST", "Phantomata^Ada"
    save(phantom, tmp_path / "in" / "a.dcm")
    kept = DeidentifyConfig(keep=("StationName",), max_quarantine=1.0)
    assert len(deidentify_folder(tmp_path / "in", tmp_path / "out", kept, key).written) == 1
    phantom.StationName = "PHANTOMATA"
    save(phantom, tmp_path / "in" / "a.dcm")
    assert deidentify_folder(tmp_path / "in", tmp_path / "out2", kept, key).written == ()


@pytest.mark.parametrize(
    ("keyword", "value", "reason"),
    [
        ("BurnedInAnnotation", "YES", "(0028,0301)"),
        ("RecognizableVisualFeatures", "YES", "(0028,0302)"),
        ("Modality", "CT", "other modality"),
        ("ConversionType", "WSD", "secondary capture"),
        ("SOPClassUID", "1.2.840.10008.5.1.4.1.1.7", "secondary capture"),
        ("SOPClassUID", "1.2.840.10008.5.1.4.1.1.2", "other object class"),
        ("NumberOfFrames", "2", "no single grey|cannot be decoded"),
    ],
)
def test_screens(phantom: FileDataset, key: Key, tmp_path: Path, keyword: str, value: str, reason: str) -> None:
    setattr(phantom, keyword, value)
    save(phantom, tmp_path / "in" / "a.dcm")
    (entry,) = deidentify_folder(tmp_path / "in", tmp_path / "out", LAX, key).quarantine
    assert any(one in entry.reason for one in reason.split("|"))


def test_text_at_every_border_is_seen_and_anatomy_is_not(phantoms: list[Path]) -> None:
    for path in phantoms[:6]:
        dataset = pydicom.dcmread(path)
        plain = dataset.pixel_array
        assert letters_in_row(plain) < MIN_LETTERS
        burn_in(
            dataset, "PHANTOM ADA", size=12, bottom=True, value=0 if "1" in dataset.PhotometricInterpretation else 4095
        )
        burned = pydicom.dcmread(path).pixel_array * 0 + dataset.pixel_array
        for turned in (burned, burned.T, burned[::-1], burned.T[:, ::-1]):
            assert letters_in_row(turned) >= MIN_LETTERS
    assert letters_in_row(plain * 0) == 0


@pytest.mark.data
def test_the_name_burned_into_a_real_film_is_seen(real_data: Path) -> None:
    burned, plain = (
        pydicom.dcmread(real_data / "dicom" / "chest" / name).pixel_array
        for name in ("cr_mono1_10bit_rle_burned_in_phi.dcm", "cr_mono1_10bit_explicit_le.dcm")
    )
    assert letters_in_row(burned) >= MIN_LETTERS > letters_in_row(plain)


@pytest.mark.slow
@pytest.mark.data
def test_real_files_leave_their_names_behind(
    real_data: Path, key: Key, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    result = deidentify_folder(real_data / "dicom", tmp_path / "out", LAX, key)
    assert len(result.written) >= 8
    assert caplog.records == []  # decoders that give up say so in pydicom's log
    written = everything(tmp_path / "out")
    assert [n for n in ("DAVIDSON", "CompressedSamples", "Archibald") if holds(written, n)] == []


def test_one_bad_file_never_stops_the_run(phantoms: list[Path], key: Key, tmp_path: Path) -> None:
    source = tmp_path / "in"
    (source / "deep").mkdir(parents=True)
    shutil.copy(phantoms[0], source / "deep" / "ok")
    shutil.copy(phantoms[0], source / "deep" / "twice")
    data = phantoms[1].read_bytes()
    (source / "header only").write_bytes(data[:300])
    (source / "empty").write_bytes(b"")
    (source / "pdf").write_bytes(b"%PDF-1.4")
    (source / "loop").symlink_to(source / "loop")
    (source / "deep" / "up").symlink_to(source, target_is_directory=True)
    (source / "gone").symlink_to(source / "nowhere")
    os.mkfifo(source / "pipe")
    bomb = pydicom.dcmread(phantoms[2])
    nested = pydicom.Dataset()
    for _ in range(150):
        outer = pydicom.Dataset()
        outer.AnatomicRegionModifierSequence = pydicom.sequence.Sequence([nested])
        nested = outer
    bomb.AnatomicRegionSequence = pydicom.sequence.Sequence([nested])
    save(bomb, source / "bomb")
    result = deidentify_folder(source, tmp_path / "out", LAX, key)
    reasons = sorted(entry.reason for entry in result.quarantine)
    assert len(result.written) + len(reasons) == 9
    assert "same SOP Instance UID as a file before it" in reasons
    assert sum("link" in reason or "pipe" in reason for reason in reasons) == 3
    assert all(len(entry.key) == 16 for entry in result.quarantine)
    named = {locate(source, entry.key, key).name for entry in result.quarantine}
    assert {"empty", "pdf", "loop", "gone", "pipe", "header only", "twice"} <= named


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_what_may_not_be_read_is_listed(phantoms: list[Path], key: Key, tmp_path: Path) -> None:
    (tmp_path / "in" / "closed").mkdir(parents=True)
    shutil.copy(phantoms[0], tmp_path / "in" / "shut")
    (tmp_path / "in" / "shut").chmod(0)
    (tmp_path / "in" / "closed").chmod(0)
    try:
        result = deidentify_folder(tmp_path / "in", tmp_path / "out", LAX, key)
    finally:
        (tmp_path / "in" / "closed").chmod(0o700)
    assert len(result.quarantine) == 2


def test_wrong_folders_are_refused_before_anything_is_written(phantoms: list[Path], key: Key, tmp_path: Path) -> None:
    source = phantoms[0].parent.parent
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    for here, there, kind, text in (
        (tmp_path / "nowhere", tmp_path / "o", IngestError, "no such folder"),
        (tmp_path / "full" / "file", tmp_path / "o", IngestError, "is no folder"),
        (tmp_path / "empty", tmp_path / "o", IngestError, "holds no files"),
        (source, tmp_path / "full", ConfigError, "is not empty"),
        (source, tmp_path / "full" / "file", ConfigError, "is a file"),
        (source, source / "out", ConfigError, "must not lie in one another"),
    ):
        with pytest.raises(kind, match=text):
            deidentify_folder(here, there, LAX, key)
    assert not (tmp_path / "o").exists()
    assert sorted(path.name for path in (tmp_path / "full").iterdir()) == ["file"]


def test_too_much_in_quarantine_ends_with_its_own_error(phantoms: list[Path], key: Key, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    shutil.copy(phantoms[0], tmp_path / "in" / "a.dcm")
    (tmp_path / "in" / "b.dcm").write_text("no image")
    with pytest.raises(QuarantineError, match=r"1 of 2 images .* 10% allowed"):
        deidentify_folder(tmp_path / "in", tmp_path / "out", DeidentifyConfig(), key)
    assert len(list((tmp_path / "out" / "images").rglob("*.dcm"))) == 1


def test_a_full_disk_is_no_quarantine(
    phantoms: list[Path], key: Key, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, *_: object, **__: object) -> None:
        raise ResourceError(f"cannot write {path.name}: the disk is full")

    monkeypatch.setattr(folder_module, "write_bytes", full)
    with pytest.raises(ResourceError, match="disk is full"):
        deidentify_folder(phantoms[0].parent, tmp_path / "out", LAX, key)
    assert "cut short" in package.verify_audit(tmp_path / "out" / "audit.jsonl")[0]


def test_the_same_key_gives_the_same_files(phantoms: list[Path], key: Key, tmp_path: Path) -> None:
    made = []
    for name in ("one", "two"):
        result = deidentify_folder(phantoms[0].parent, tmp_path / name, LAX, key)
        made.append({path: (tmp_path / name / path).read_bytes() for path in result.written})
    assert made[0] == made[1]
    assert made[0]


def test_command_without_key_and_without_input(
    phantoms: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(package.KEY_VARIABLE, raising=False)
    source, output = str(phantoms[0].parent), str(tmp_path / "out")
    assert main(["deidentify", source, output]) == 2
    monkeypatch.setenv(package.KEY_VARIABLE, "0123456789abcdefghijklmnopqrstuvwxyz")
    assert main(["deidentify", str(tmp_path / "nowhere"), output]) == 3
    assert main(["deidentify", source]) == 2
    assert main(["deidentify", source, "--locate", "00"]) == 3
    errors = capfd.readouterr().err.splitlines()
    for line, text in zip(errors, ("no key", "no such folder", "OUT is missing", "no file in the input"), strict=True):
        assert text in line
    assert main(["deidentify", source, output, "--quiet"]) == 0
    assert capfd.readouterr().out.startswith("de-identified: ")


@pytest.fixture
def picture(phantoms: list[Path]) -> Image.Image:
    pixels = pydicom.dcmread(phantoms[0]).pixel_array
    return Image.fromarray((pixels >> 4).astype("u1")).resize((512, 512))


def test_pictures_leave_everything_but_their_pixels_behind(picture: Image.Image, key: Key, tmp_path: Path) -> None:
    source = tmp_path / "in" / "Phantomward"
    source.mkdir(parents=True)
    text = PngInfo()
    text.add_text("Comment", "PHANTOM^SECRET")
    text.add_itxt("Title", "PHANTOM^SECRET", zip=True)
    exif = Image.Exif()
    exif[0x010E] = "PHANTOM^SECRET"
    picture.save(source / "Phantomname.png", pnginfo=text, exif=exif)
    picture.save(source / "Phantomname.jpg", comment=b"PHANTOM^SECRET", exif=exif, quality=95)
    deep = Image.fromarray(np.asarray(picture).astype("u2") * 256 + 3)
    deep.save(source / "deep.png")
    named = picture.copy()
    ImageDraw.Draw(named).text((6, 4), "PHANTOM^BURNED 1961", fill=255, font=ImageFont.load_default(size=16))
    named.save(source / "burned.png")
    refused = deidentify_folder(tmp_path / "in", tmp_path / "refused", LAX, key)
    assert [entry.reason for entry in refused.quarantine] == [
        "PNG or JPEG picture: `pictures: true` in the recipe takes it"
    ] * 4
    result = deidentify_folder(tmp_path / "in", tmp_path / "out", dataclasses.replace(LAX, pictures=True), key)
    assert [entry.reason for entry in result.quarantine] == ["letters in the pixels near a border"]
    assert result.patients == len(result.written) == 3
    written = everything(tmp_path / "out")
    assert [name for name in ("SECRET", "Phantomname", "Phantomward", "PHANTOM") if holds(written, name)] == []
    pictures = [np.asarray(Image.open(tmp_path / "out" / name)) for name in result.written]
    for expected in (np.asarray(picture), np.asarray(deep)):
        assert any(one.dtype == expected.dtype and np.array_equal(one, expected) for one in pictures)
    assert all(foreign_chunks((tmp_path / "out" / name).read_bytes()) == [] for name in result.written)
    assert package.verify_audit(tmp_path / "out" / "audit.jsonl", key) == []


def test_what_a_png_holds_beyond_pixels_is_named(picture: Image.Image) -> None:
    buffer, text = io.BytesIO(), PngInfo()
    text.add_text("Comment", "PHANTOM^SECRET")
    picture.save(buffer, "PNG", pnginfo=text, dpi=(300, 300))
    data = buffer.getvalue()
    assert sorted(foreign_chunks(data)) == ["pHYs", "tEXt"]
    assert "bytes after the end" in foreign_chunks(data + b"PHANTOM")
    assert "IDAT" in foreign_chunks(data[:-60])
