"""The gate: what is set aside, what is warned of, and that its pictures stay where they belong."""

from __future__ import annotations

import io
import stat

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from scipy import ndimage

from medidistill.config import IngestConfig, QualityConfig
from medidistill.errors import QuarantineError
from medidistill.ingest import ingest
from medidistill.ingest.examine import difference_hash
from medidistill.ingest.header_screening import body_part, view, view_of_text
from medidistill.ingest.notices import Notice
from medidistill.ingest.quality import near_pairs


def film(seed, size=96):
    """Smooth shapes and fine structure, different for each seed."""
    rng = np.random.default_rng(seed)
    broad = ndimage.gaussian_filter(rng.standard_normal((size, size)), 9)
    fine = ndimage.gaussian_filter(rng.standard_normal((size, size)), 1.2)
    picture = broad / broad.std() + 0.5 * fine / fine.std()
    return np.uint8(np.clip(128 + 40 * picture, 0, 255))


def cohort(folder, count=4):
    """Two classes, `count` patients each, splits given: train, val, test, train ..."""
    rows = ["path,label,split,view"]
    for k, label in enumerate(("cat", "dog")):
        for i in range(count):
            name = f"{label}{i}.png"
            Image.fromarray(film(100 * k + i)).save(folder / name)
            rows.append(f"{name},{label},{('train', 'val', 'test')[i % 3]},")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return rows


def add(folder, rows, picture, label="cat", split="train", view="", name="extra.png"):
    if picture is not None:
        Image.fromarray(picture).save(folder / name)
    rows.append(f"{name},{label},{split},{view}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")


def read(folder, **quality):
    return ingest(folder, IngestConfig(image_size=64, max_quarantine=1.0, quality=QualityConfig(**quality)))


def reasons(entries):
    return {entry.key: entry.reason for entry in entries}


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"ViewPosition": "PA"}, "frontal"),
        ({"ViewPosition": "LL"}, "lateral"),
        ({"ViewPosition": "lateral"}, "lateral"),
        ({"ViewPosition": "RAO"}, "oblique"),
        ({"PatientOrientation": ["L", "F"]}, ""),
        ({"PatientOrientation": ["A", "F"]}, "lateral"),
        ({"PatientOrientation": ["P", "F"], "ViewPosition": "AP"}, "frontal"),
        ({"PatientOrientation": ["F", "A"]}, "lateral"),  # a lateral view on its side
        ({"PatientOrientation": ["H", "P"]}, "lateral"),
        ({"PatientOrientation": ["PL", "F"]}, "lateral"),  # the main direction comes first
        ({"PatientOrientation": ["LP", "F"]}, ""),
        ({"PatientOrientation": ["f", "a"]}, "lateral"),
        ({"PatientOrientation": ["F", "L"]}, ""),
        ({"PatientOrientation": ["R", "H"]}, ""),
        ({"PatientOrientation": "P"}, "lateral"),
        ({"PatientOrientation": ["L", "PHANTOM"]}, ""),
        ({"PatientOrientation": "PAT"}, ""),
        ({"PatientOrientation": ["L", "F", "A"]}, ""),
        ({"SeriesDescription": "Chest LAT"}, "lateral"),
        ({"SeriesDescription": "Thorax_seitlich"}, "lateral"),
        ({"SeriesDescription": "Chest PA and lat"}, ""),
        ({"SeriesDescription": "Thorax a.p. lateral"}, ""),  # both are named
        ({"SeriesDescription": "Platelets"}, ""),
        ({}, ""),
    ],
)
def test_view_of_a_header(radiograph, attributes, expected):
    assert view(radiograph([[0, 1]], **attributes)) == expected


def test_view_code_goes_before_the_view_position(radiograph):
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator = "399173006", "SCT"
    assert view(radiograph([[0, 1]], ViewCodeSequence=Sequence([item]), ViewPosition="PA")) == "lateral"


@pytest.mark.parametrize(
    ("part", "expected"),
    [("CHEST", ""), ("Thorax", ""), ("PORT CHEST", ""), ("", ""), ("HIP", "other"), ("ABDOMEN", "other")],
)
def test_body_part(radiograph, part, expected):
    assert body_part(radiograph([[0, 1]], BodyPartExamined=part)) == expected


def test_anatomic_region_counts_where_no_body_part_is_named(radiograph):
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator = "818981001", "SCT"
    assert body_part(radiograph([[0, 1]], AnatomicRegionSequence=Sequence([item]))) == "other"
    item.CodeValue = "816094009"
    assert body_part(radiograph([[0, 1]], AnatomicRegionSequence=Sequence([item]))) == ""


def test_words_of_a_table():
    assert [view_of_text(text) for text in ("PA", "Lateral", "LAO", "", "AP supine")] == [
        *("frontal", "lateral", "oblique", ""),
        "",
    ]


@pytest.mark.parametrize(
    ("field", "picture", "view", "reason"),
    [
        ("view", film(7), "LL", "lateral view"),
        ("blank", np.uint8(120 + film(7) / 64), "", "blank: hardly any contrast"),
        ("clipped", np.uint8(np.where(film(7) > 170, film(7), 0)), "", "clipped: most pixels at one end of the scale"),
    ],
)
def test_each_doubt_is_set_aside_warned_of_or_accepted(tmp_path, field, picture, view, reason):
    add(tmp_path, cohort(tmp_path), picture, view=view)
    aside, warned, accepted = (read(tmp_path, **{field: what}) for what in ("quarantine", "warn", "accept"))
    assert reasons(aside.quarantine) == {"extra.png": reason}
    assert reasons(warned.warned) == {"extra.png": reason}
    assert "extra.png" in set(warned.train.keys) & set(accepted.train.keys) - set(aside.train.keys)
    assert not warned.quarantine + accepted.quarantine + accepted.warned + aside.warned


def test_a_header_that_names_another_part_or_view(tmp_path, save):
    for i, (label, part, position) in enumerate(
        [("cat", "CHEST", "PA"), ("dog", "CHEST", "AP"), ("cat", "HIP", ""), ("dog", "CHEST", "LL")]
    ):
        save(tmp_path / label / str(i), film(i), bits=8, number=i, BodyPartExamined=part, ViewPosition=position)
    config = IngestConfig(image_size=64, max_quarantine=1.0, val_fraction=0, test_fraction=0)
    assert reasons(ingest(tmp_path, config).quarantine) == {
        "cat/2": "a body part other than the chest",
        "dog/3": "lateral view",
    }


def test_a_turned_frontal_image_is_used_upright_and_a_turned_lateral_one_is_set_aside(tmp_path, save):
    for i, orientation in enumerate((["L", "F"], ["H", "R"], ["L", "F"], ["F", "A"])):
        label, stored = ("cat", "dog")[i % 2], film(i)[::-1, ::-1].T if orientation == ["H", "R"] else film(i)
        save(tmp_path / label / str(i), stored, bits=8, number=i, PatientOrientation=orientation)
    config = IngestConfig(image_size=96, max_quarantine=1.0, val_fraction=0, test_fraction=0)
    found = ingest(tmp_path, config)
    assert reasons(found.quarantine) == {"dog/3": "lateral view"}
    assert reasons(found.warned)["dog/1"] == str(Notice.TURNED)
    assert "cat/0" not in reasons(found.warned)
    shown = found.train.images[list(found.train.keys).index("dog/1"), 0].numpy()
    np.testing.assert_allclose(shown, film(1) / 255, atol=1e-6)


def test_same_pixels_in_other_bytes_and_under_another_label(tmp_path):
    rows = cohort(tmp_path)
    Image.fromarray(film(0)).save(tmp_path / "extra.png", compress_level=0)
    add(tmp_path, rows, None, label="dog")
    (entry,) = read(tmp_path).quarantine
    assert (entry.key, entry.other) == ("extra.png", "cat0.png")
    assert entry.reason == "same pixels as another file, under another label"


def recompressed(picture):
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=60)
    return np.asarray(Image.open(buffer))


@pytest.mark.parametrize(
    "change",
    [
        recompressed,
        lambda picture: np.asarray(Image.fromarray(picture).resize((150, 150), Image.Resampling.BICUBIC)),
        lambda picture: np.uint8(255 * (picture / 255) ** 1.3),
        lambda picture: 255 - picture,
    ],
)
def test_near_duplicate_across_splits_leaves_the_training_split(tmp_path, change):
    rows = cohort(tmp_path)
    add(tmp_path, rows, change(film(2)))  # cat2 is in the test split
    result = read(tmp_path)
    (entry,) = result.quarantine
    assert (entry.key, entry.other) == ("extra.png", "cat2.png")
    assert entry.reason == "near duplicate of an image in the test split"
    assert "cat2.png" in result.test.keys
    assert set(result.thumbnails) == {"extra.png", "cat2.png"}
    # in one split it is one more film
    rows[-1] = "extra.png,cat,test,"
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    assert not read(tmp_path).quarantine


def test_like_outlines_alone_are_no_duplicates(tmp_path):
    rows = cohort(tmp_path)
    broad = ndimage.gaussian_filter(film(2).astype(float), 5)
    other = broad + 12 * ndimage.gaussian_filter(np.random.default_rng(1).standard_normal((96, 96)), 1.2)
    picture = np.uint8(np.clip(other, 0, 255))
    bits = int((difference_hash(picture.astype(np.float32)) != difference_hash(film(2).astype(np.float32))).sum())
    assert bits <= 64
    add(tmp_path, rows, picture)
    assert not read(tmp_path, max_bits=64).quarantine
    assert read(tmp_path, max_bits=64, min_correlation=0.0).quarantine


def test_near_pairs_against_a_plain_loop():
    rng = np.random.default_rng(0)
    bits = rng.random((60, 256)) < 0.5
    for i in range(30):
        flips = rng.choice(256, i, replace=False)
        bits[30 + i] = bits[i]
        bits[30 + i, flips] ^= True
    bits[59] = ~bits[5]
    groups = rng.integers(0, 3, 60).tolist()
    texts = [np.packbits(row).tobytes().hex() for row in bits]
    distances = [[min(d := int((a != b).sum()), 256 - d) for b in bits] for a in bits]
    expected = [(i, j) for i in range(60) for j in range(i + 1, 60) if distances[i][j] <= 16 and groups[i] != groups[j]]
    assert near_pairs(texts, groups, 16) == expected
    assert len(expected) > 5
    assert near_pairs([], [], 16) == []


def test_thumbnails_lie_in_the_private_folder_alone(tmp_path):
    (tmp_path / "in").mkdir()
    add(tmp_path / "in", cohort(tmp_path / "in"), film(7), view="LL", name="<b>.png")
    result = ingest(tmp_path / "in", IngestConfig(image_size=64, max_quarantine=1.0))
    result.write_tables(tmp_path / "out")
    page = (tmp_path / "out/quarantine.html").read_text()
    assert stat.S_IMODE((tmp_path / "out/quarantine.html").stat().st_mode) == 0o600
    assert page.count("data:image/png;base64,") == 1
    assert "lateral view" in page
    assert "&lt;b&gt;.png" in page
    assert "<b>" not in page


def test_a_run_that_stops_for_its_quarantine_leaves_the_pictures(tmp_path):
    (tmp_path / "in").mkdir()
    add(tmp_path / "in", cohort(tmp_path / "in"), film(7), view="LL")
    with pytest.raises(QuarantineError, match="1 x lateral view"):
        ingest(tmp_path / "in", IngestConfig(image_size=64, max_quarantine=0.0), folder=tmp_path / "run")
    assert "data:image/png" in (tmp_path / "run/quarantine.html").read_text()
