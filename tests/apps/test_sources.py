"""What the page Data makes of folders and uploads: nothing from outside, classes by their own names, patients said."""

from __future__ import annotations

import os

import numpy as np
import pytest

from medidistill.errors import ConfigError, IngestError

from .upload_files import picture, picture_archive


@pytest.fixture
def tree(tmp_path):
    """A folder that may be read, with links out of it; three pictures lie outside."""
    outside = tmp_path / "outside"
    for i in range(3):
        (outside / f"{i}.png").parent.mkdir(exist_ok=True)
        (outside / f"{i}.png").write_bytes(picture(i))
    for k, label in enumerate(("Normal", "Pneumonia")):
        (tmp_path / "allowed" / label).mkdir(parents=True)
        for i in range(2):
            (tmp_path / "allowed" / label / f"{i}.png").write_bytes(picture(10 + 2 * k + i))
    (tmp_path / "allowed/Outside").symlink_to("../outside")
    (tmp_path / "allowed/Normal/one.png").symlink_to("../../outside/0.png")
    return tmp_path / "allowed"


def test_preview_counts_and_shows_nothing_from_outside(sources, tree):
    view = sources.read_source(tree)
    assert (view.images, view.classes) == (4, ("Normal", "Pneumonia"))
    assert all(path.resolve().is_relative_to(tree) for path, _ in view.files)
    assert len(sources.sample_images(view)) == 4
    assert sources.look_for_patients(view).looked_at == 4
    assert view.set_aside == (("a symbolic link that leads out of the input folder (see ingest.follow_links)", 2),)


def test_picker_offers_what_the_scan_would_enter_and_nothing_else(root, tree):
    from view_models.places import subfolders

    (tree / "__MACOSX").mkdir()
    (tree / os.fsdecode(b"unauff\xe4llig")).mkdir()
    (tree / "within").symlink_to("Normal")
    os.mkfifo(tree / "pipe")
    assert [one.name for one in subfolders(tree, tree)] == ["Normal", "Pneumonia", "within"]


def test_folder_that_became_a_link_since_it_was_chosen_is_not_readable(places, root, tmp_path):
    from view_models.places import readable

    (tmp_path / "outside").mkdir()
    (root / "chosen").mkdir()
    assert readable(places, root / "chosen") == root / "chosen"
    (root / "chosen").rmdir()
    (root / "chosen").symlink_to(tmp_path / "outside")
    with pytest.raises(ConfigError, match="outside of the folders"):
        readable(places, root / "chosen")


def test_start_page_refuses_a_source_that_leads_out(open_page, root, tmp_path, text_of):
    (tmp_path / "outside").mkdir()
    (root / "chosen").symlink_to(tmp_path / "outside")
    test = open_page("new_run", data_from=str(root), data_here=str(root / "chosen"))
    assert test.session_state["data_here"] == str(root)
    assert not [button for button in test.button if button.key == "start_run"]


@pytest.mark.parametrize("backslash", [False, True], ids=["slashes", "backslashes"])
def test_uploaded_archive_keeps_the_names_of_classes(sources, places, backslash):
    names = [f"X-rays/{label}/{i}.png" for label in ("Normal", "Viral Pneumonia") for i in range(2)]
    data = picture_archive(["X-rays/", "__MACOSX/._x", "X-rays/.DS_Store", *names], backslash=backslash)
    kept = sources.keep_upload(places, [("a.zip", data)], "")
    assert kept.is_relative_to(places.uploads)
    assert sources.read_source(kept).classes == ("Normal", "Viral Pneumonia")


def test_uploaded_archive_that_leads_out_leaves_nothing(sources, places, tmp_path):
    with pytest.raises(IngestError, match="leads out of the folder"):
        sources.keep_upload(places, [("a.zip", picture_archive(["a/1.png", "../../escape.png"]))], "")
    assert not list(places.uploads.glob("*"))
    assert not list(tmp_path.rglob("escape.png"))


def test_uploaded_pictures_keep_the_class_as_it_is_typed_and_join_one_that_is_there(sources, places):
    kept = sources.keep_upload(places, [("a.png", picture(1))], "Viral Pneumonia")
    sources.add_to_upload(kept, [("b.png", picture(2))], " viral_pneumonia ")
    sources.add_to_upload(kept, [("c.png", picture(3))], "Unauffällig")
    view = sources.read_source(kept)
    assert view.classes == ("Unauffällig", "Viral Pneumonia")
    assert view.images == 3


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Normal", "Normal"),
        ("  Viral   Pneumonia ", "Viral Pneumonia"),
        ("../../etc", "etc"),
        ("..", ""),
        ("a/b\\c:d\n", "abcd"),
        (".hidden", "hidden"),
        ("x" * 90, "x" * 60),
        ("ü" * 90, "ü" * 60),
    ],
)
def test_class_becomes_a_folder(root, text, name):
    from view_models.places import class_folder

    assert class_folder(text) == name


def test_page_says_that_patients_are_unknown(open_page, root, text_of):
    for k, label in enumerate(("Normal", "Pneumonia")):
        (root / "xrays" / label).mkdir(parents=True)
        for i in range(2):
            (root / "xrays" / label / f"{i}.png").write_bytes(picture(2 * k + i))
    test = open_page("data", data_here=str(root / "xrays"))
    assert "Patients unknown: split by image." in text_of(test)
    assert [one.value for one in test.metric if one.label == "Patients"] == ["unknown"]


@pytest.fixture
def packed(root):
    """A folder with a MedMNIST file, whose images only a run unpacks."""
    (root / "packed").mkdir()
    images = np.random.default_rng(0).integers(0, 255, (6, 28, 28), dtype=np.uint8)
    parts = {
        f"{split}_{what}": values
        for split in ("train", "val", "test")
        for what, values in (("images", images), ("labels", np.arange(6)[:, None] % 2))
    }
    np.savez(root / "packed" / "pneumoniamnist.npz", **parts)
    return root / "packed"


def test_nothing_is_said_to_be_clean_that_could_not_be_read(open_page, packed, text_of):
    test = open_page("data", data_here=str(packed), look=True, show_samples=True)
    assert not [one.value for one in test.success if "Nothing found" in one.value]
    assert any("18 of 18 could not be looked at" in one.value for one in test.warning)
    assert "18 of 18 images lie in an archive" in text_of(test)
    assert not [one for one in test.button if one.label == "View"]


def test_some_unreadable_files_are_a_warning_beside_what_the_others_show(open_page, root, text_of):
    for k, label in enumerate(("Normal", "Pneumonia")):
        (root / "xrays" / label).mkdir(parents=True)
        for i in range(2):
            (root / "xrays" / label / f"{i}.png").write_bytes(picture(2 * k + i))
    (root / "xrays" / "Normal" / "0.png").write_bytes(picture()[:60])
    test = open_page("data", data_here=str(root / "xrays"), look=True)
    assert any("1 of 4 could not be looked at" in one.value for one in test.warning)
    assert any(one.value.startswith("Nothing found in the other files") for one in test.success)


def test_images_without_a_site_are_counted_under_their_own_heading(sources, root):
    (root / "sites").mkdir()
    rows = ["path,label,site"]
    for i in range(6):
        (root / "sites" / f"{i}.png").write_bytes(picture(i))
        rows.append(f"{i}.png,{'ab'[i % 2]},{'XY'[i % 2] if i < 4 else ''}")
    (root / "sites" / "labels.csv").write_text("\n".join(rows))
    view = sources.read_source(root / "sites")
    assert list(view.counts.columns) == ["X", "Y", "site unknown"]
    assert len(view.confounded) == 2
    (root / "sites" / "labels.csv").write_text("\n".join(row.rpartition(",")[0] for row in rows))
    assert list(sources.read_source(root / "sites").counts.columns) == ["images"]
