"""The check of every file, de-identification from the page, the viewer: real files, real processes."""

from __future__ import annotations

import json
import shutil
import time

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def places(root):
    from view_models.places import Places

    return Places.of()


@pytest.fixture
def films(root, made):
    """A few phantoms below the folder of runs, one of them damaged and one there twice."""
    folder = root / "films"
    shutil.copytree(made.phantoms, folder)
    files = sorted(folder.rglob("*.dcm"))
    files[0].write_bytes(files[0].read_bytes()[:700])
    shutil.copyfile(files[1], files[2])
    return folder


def wait(condition, seconds=600.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "nothing happened"
        time.sleep(0.2)


def test_check_of_a_folder_finds_what_is_damaged_and_what_is_there_twice(places, films, open_page, text_of):
    from view_models.checking import folder_check, forget_check, start_check

    assert folder_check(places, films).state == "none"
    test = open_page("data", data_from=str(places.runs), data_here=str(films))
    test.button("check_files").click().run()
    assert not test.exception
    wait(lambda: folder_check(places, films).state != "running")
    found = folder_check(places, films, pictures=True)
    assert (found.state, found.error, found.current) == ("completed", "", True)
    reasons = " ".join(found.reasons("set_aside")["reason"])
    assert "same bytes as another file" in reasons
    assert found.told["images"] + found.told["set_aside_in_all"] == len(list(films.rglob("*.dcm")))
    assert found.pictures
    assert all(picture.dtype == np.uint8 for picture in found.pictures.values())
    assert list(found.fact("bit depth")["bit depth"])
    assert set(found.classes["class"]) == {"normal", "lobar_pneumonia", "bilateral_peripheral_opacities"}
    shown = open_page("data", data_from=str(places.runs), data_here=str(films))
    assert "usable images" in text_of(shown)
    assert not shown.image  # patients are shown when asked for
    shown.toggle("show_set_aside").set_value(True).run()
    assert not shown.exception
    assert len(shown.image) >= 1
    next(iter(films.rglob("*.dcm"))).unlink()
    assert not folder_check(places, films).current
    with pytest.raises(Exception, match="being checked already"):
        _start_twice(places, films, start_check)
    folder_check(places, films).job.stop()
    wait(lambda: folder_check(places, films).state != "running")
    forget_check(places, films)
    assert folder_check(places, films).state == "none"


def test_every_reason_is_counted_and_only_usable_images_have_facts(root, monkeypatch, tmp_path):
    from view_models import check_files

    monkeypatch.setattr(check_files, "_MOST", 2)
    generator = np.random.default_rng(0)
    for label in "ab":
        (root / "films" / label).mkdir(parents=True)
        for i in range(3):
            picture = generator.integers(0, 255, (64, 64), dtype=np.uint8)
            Image.fromarray(picture).save(root / "films" / label / f"{i}.png")
    for i in range(4):
        (root / "films" / "a" / f"bad{i}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
        Image.new("L", (64, 64), 10 * i).save(root / "films" / "b" / f"blank{i}.png")
    check_files.check(root / "films", tmp_path / "found", "exclusions.csv")
    told = json.loads((tmp_path / "found" / "check.json").read_text())
    assert len(told["set_aside"]) == 2
    assert sum(told["set_aside_reasons"].values()) == told["set_aside_in_all"] == 8
    assert len(told["set_aside_reasons"]) > 1
    for name in ("bit depth", "view"):
        assert sum(told["facts"][name].values()) == told["images"], name


@pytest.mark.parametrize("text", ["{}", "[]", "null"])
def test_a_damaged_check_is_none(places, root, open_page, text):
    from view_models.checking import _folder, folder_check

    found = _folder(places, root / "films") / "found"
    found.mkdir(parents=True)
    (found / "check.json").write_text(text)
    (found.parent / "job.json").write_text("{}")
    (found.parent / "exit").write_text("0")
    assert folder_check(places, root / "films").state == "none"


def _start_twice(places, films, start_check):
    start_check(places, films)
    start_check(places, films)


@pytest.mark.slow
def test_check_of_an_empty_folder_is_an_error_in_words(places, root):
    from view_models.checking import folder_check, start_check

    (root / "empty").mkdir()
    start_check(places, root / "empty")
    wait(lambda: folder_check(places, root / "empty").state != "running")
    found = folder_check(places, root / "empty")
    assert found.state == "failed"
    assert "empty" in found.error


@pytest.mark.slow
def test_deidentified_copies_are_made_from_the_page(places, root, made, open_page, text_of):
    from view_models.checking import deidentified

    shutil.copytree(made.phantoms, root / "named")
    test = open_page("data", data_from=str(places.runs), data_here=str(root / "named"))
    test.button("deidentify").click().run()
    assert not test.exception
    wait(lambda: deidentified(places, root / "named").state != "running")
    found = deidentified(places, root / "named")
    assert (found.state, found.error) == ("completed", "")
    assert found.images is not None
    copies = list(found.images.rglob("*.dcm"))
    assert copies
    assert all("PHANTOM^" not in str(dcmread(one, stop_before_pixels=True).get("PatientName", "")) for one in copies)
    assert (places.jobs / "deidentify.key").stat().st_mode & 0o777 == 0o600
    assert (found.images / "labels.csv").is_file()
    test = open_page("data", data_from=str(places.runs), data_here=str(root / "named"))
    test.button("go_cleaned").click().run()
    assert not test.exception
    assert test.session_state["data_here"] == str(found.images)


@pytest.mark.parametrize(
    ("line", "share"),
    [
        ("reading X-rays:  35%|###5      | 42/120 [00:03<00:07, 11.2image/s]", 0.35),
        ("100%|##########| 5/5 [00:00<00:00, 9.81it/s]", 1.0),
        ("medidistill: error: no", None),
        ("35 % of it", None),
    ],
)
def test_progress_bar_is_read(root, tmp_path, line, share):
    from view_models.jobs import Job

    (tmp_path / "log.txt").write_text(line)
    found = Job(tmp_path).progress()
    assert (found and found.share) == share


def test_viewer_pages_through_films_and_shows_them_only_when_asked(places, root, made, open_page):
    shutil.copytree(made.phantoms, root / "films")
    test = open_page("data", data_from=str(places.runs), data_here=str(root / "films"))
    assert not test.image
    test.toggle("show_samples").set_value(True).run()
    assert len(test.image) == 12
    first = [one.key for one in test.button if str(one.key).startswith("film_")]
    test.number_input("film_page").set_value(2).run()
    assert not test.exception
    assert first != [one.key for one in test.button if str(one.key).startswith("film_")]


def test_a_film_that_has_gone_since_is_said_and_names_no_folder(places, root, made, open_page, monkeypatch):
    from app_pages import source_parts

    monkeypatch.setattr(source_parts, "folder_stamp", lambda _: "")  # it goes after the page has read the folder
    shutil.copytree(made.phantoms, root / "films")
    test = open_page("data", data_from=str(places.runs), data_here=str(root / "films"), show_samples=True)
    gone = next(one for one in test.button if str(one.key).startswith("film_"))
    (root / "films" / gone.key.removeprefix("film_")).unlink()
    gone.click().run()
    assert not test.exception
    (said,) = (one.value for one in test.error)
    assert str(root) not in said


def test_each_frame_is_shown_as_a_film_of_its_own(sources, root, made, monkeypatch):
    from view_models.viewer import read_picture

    monkeypatch.setenv("MEDIDISTILL_SET__ingest__frames", "split")
    for label in "ab":
        (root / "frames" / label).mkdir(parents=True)
        dataset = dcmread(next(iter(sorted(made.phantoms.rglob("*.dcm")))))
        pixels = dataset.pixel_array
        dataset.NumberOfFrames = 2
        dataset.PixelData = np.stack([pixels, np.flipud(pixels)]).tobytes()
        dataset.save_as(root / "frames" / label / "x.dcm")
    view = sources.read_source(root / "frames")
    assert (view.images, view.frames) == (4, (0, 1, 0, 1))
    first, second = (
        read_picture(path, frame).pixels for (path, _), frame in zip(view.files[:2], view.frames, strict=False)
    )
    np.testing.assert_allclose(second, np.flipud(first))
    assert len(sources.sample_images(view, each=2)) == 4
    assert sources.look_for_patients(view).unreadable == 0


@pytest.mark.parametrize(
    ("level", "width", "low", "high"), [(0.5, 1.0, 0.0, 1.0), (0.25, 0.5, 0.0, 1.0), (1.0, 0.5, 0.0, 0.5)]
)
def test_window_stretches_grey_values(root, level, width, low, high):
    from view_models.viewer import windowed

    ramp = np.tile(np.linspace(0, 1, 101, dtype=np.float32), (4, 1))
    shown = windowed(ramp, level, width)
    assert (shown.min(), shown.max()) == (pytest.approx(low, abs=1e-6), pytest.approx(high, abs=1e-6))
    assert shown[0, round(100 * min(level, 1.0))] == pytest.approx(0.5, abs=0.01)


def test_zoom_shows_a_part(root):
    from view_models.viewer import windowed

    pixels = np.arange(64, dtype=np.float32).reshape(8, 8) / 64
    assert windowed(pixels, 0.5, 1.0, 4.0, across=1.0, down=0.0).tolist() == pixels[:2, 6:].tolist()


def test_header_of_the_viewer_names_nobody(root, made, tmp_path):
    from view_models.viewer import header_table

    file = next(iter(sorted(made.phantoms.rglob("*.dcm"))))
    table = header_table(file)
    assert {"Modality", "Rows", "BitsStored", "TransferSyntax"} <= set(table["element"])
    dataset = dcmread(file, stop_before_pixels=True)
    for name in ("PatientName", "PatientID", "StudyDate", "StudyInstanceUID"):
        value = str(dataset.get(name, ""))
        assert not value or value not in " ".join(table["value"])
    Image.new("L", (5, 7)).save(tmp_path / "x.png")
    assert dict(header_table(tmp_path / "x.png").to_numpy())["Rows"] == "7"
