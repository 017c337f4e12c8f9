"""Files that somebody excluded, with a reason: not used, counted, kept apart from what could not be used."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from medidistill.config import IngestConfig, digest
from medidistill.errors import IngestError
from medidistill.ingest import ingest
from medidistill.ingest.sources import find_records, workspace
from medidistill.ingest.sources.exclusions import read_exclusions, write_exclusions


@pytest.fixture
def films(tmp_path):
    """Two classes of eight pictures."""
    for k, label in enumerate(("cat", "dog")):
        (tmp_path / "films" / label).mkdir(parents=True)
        for i in range(8):
            pixels = np.random.default_rng(10 * k + i).integers(0, 255, (20, 20), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "films" / label / f"{i}.png")
    return tmp_path / "films"


def found(folder, tmp_path, **settings):
    with workspace(tmp_path / "private") as place:
        return find_records(folder, IngestConfig(image_size=16, **settings), place)


@pytest.mark.parametrize("where", ["in the folder", "elsewhere"])
def test_listed_files_are_left_out_and_counted(films, tmp_path, where):
    listed = {"cat/1.png": "wrong patient, see letter", "dog/3.png": 'says "L", is R', "dog/99.png": "gone"}
    file = films / "exclusions.csv" if where == "in the folder" else tmp_path / "list.csv"
    write_exclusions(file, listed)
    setting = {} if where == "in the folder" else {"exclusions": str(file)}
    told = found(films, tmp_path, **setting)
    assert len(told.records) == 14
    assert {(entry.key, entry.reason) for entry in told.excluded} == set(list(listed.items())[:2])
    assert told.quarantine == []  # the list itself is no picture that could not be read
    assert "2 files were excluded by hand, with a reason (ingest.exclusions)." in told.notes
    assert "1 of 3 entries of the list of exclusions names no file of this input." in told.notes
    assert not any("cat/1" in note or "letter" in note for note in told.notes)


def test_run_keeps_a_private_table_of_what_was_excluded(films, tmp_path):
    write_exclusions(films / "exclusions.csv", {"cat/0.png": "cut off"})
    result = ingest(films, IngestConfig(image_size=16))
    (tmp_path / "kept").mkdir()
    result.write_tables(tmp_path / "kept")
    table = pd.read_csv(tmp_path / "kept" / "excluded.csv")
    assert table[["key", "reason"]].to_numpy().tolist() == [["cat/0.png", "cut off"]]
    assert (tmp_path / "kept" / "excluded.csv").stat().st_mode & 0o077 == 0
    assert "cat/0.png" not in set(result.manifest["key"])


def test_damaged_file_that_is_excluded_counts_against_no_limit(films, tmp_path):
    for i in range(3):
        (films / "dog" / f"{i}.png").write_bytes(b"")
    write_exclusions(films / "exclusions.csv", {f"dog/{i}.png": "empty" for i in range(3)})
    result = ingest(films, IngestConfig(image_size=16, max_quarantine=0.0))
    assert len(result.manifest) == 13
    assert len(result.excluded) == 3


def test_same_data_without_a_list_keep_their_digest(films):
    plain, with_list = IngestConfig(image_size=16), IngestConfig(image_size=16, exclusions="/elsewhere/list.csv")
    assert digest("ingest", plain) == digest("ingest", with_list)
    before = ingest(films, plain).digest
    write_exclusions(films / "exclusions.csv", {})
    assert ingest(films, plain).digest == before
    write_exclusions(films / "exclusions.csv", {"cat/0.png": "cut off"})
    assert ingest(films, plain).digest != before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("file,reason\na,b\n", "needs one column path, it has none"),
        ("path,reason\ncat/0.png,\n", "line 2 has no reason"),
        ("path,reason\n,blurred\n", "line 2 has no path"),
        ("path,reason\ncat/0.png,a\ncat/0.png,b\n", "line 3 lists a file a second time"),
        ("", "it is empty"),
    ],
)
def test_unusable_list_ends_the_ingest_with_its_line(films, content, message):
    (films / "exclusions.csv").write_text(content)
    with pytest.raises(IngestError, match=message):
        ingest(films, IngestConfig(image_size=16))


@pytest.mark.parametrize("name", ["missing.csv", "/nowhere/list.csv", "../outside.csv"])
def test_list_that_was_asked_for_must_be_there_and_inside(films, tmp_path, name):
    write_exclusions(tmp_path / "outside.csv", {})
    with pytest.raises(IngestError, match=r"no such list of exclusions|leads out|outside"):
        found(films, tmp_path, exclusions=name)


def test_input_of_which_all_is_excluded_says_so(films, tmp_path):
    keys = [record.key for record in found(films, tmp_path).records]
    write_exclusions(films / "exclusions.csv", dict.fromkeys(keys, "test"))
    with pytest.raises(IngestError, match="all 16 images are in the list of exclusions"):
        ingest(films, IngestConfig(image_size=16))


def test_list_is_read_as_it_was_written(tmp_path):
    listed = {"a,b/ü.png": "two\nlines", 'q"uote.png': "comma, and more"}
    write_exclusions(tmp_path / "list.csv", listed)
    assert read_exclusions(tmp_path / "list.csv") == {"a,b/ü.png": "two lines", 'q"uote.png': "comma, and more"}
    write_exclusions(tmp_path / "list.csv", {})
    assert read_exclusions(tmp_path / "list.csv") == {}
