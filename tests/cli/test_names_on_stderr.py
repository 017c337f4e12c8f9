"""Names of files and patients stay off stdout and stderr, which cron mails; a private file has them."""

from __future__ import annotations

import csv
import logging
import os
import re
import stat
import warnings
import zipfile
from pathlib import Path

import numpy as np
import openpyxl
import pytest
from PIL import Image

from medidistill.cli import main
from medidistill.cli.parser import make_parser
from medidistill.cli.private_output import fail, keep_library_messages
from medidistill.errors import IngestError, ResourceError
from medidistill.pipeline.runfolder.withholding import make_public, withhold_names

NAMES = ("KOWALCZYK", "Thistlewood", "ID-77310", "ACC90210")
KEY = "0123456789abcdef" * 4


def draw(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (20, 20), dtype=np.uint8)).save(path)


def table(folder: Path, rows, header=("path", "label", "patient_id")) -> Path:
    with open(folder / "labels.csv", "w", newline="") as file:
        csv.writer(file).writerows([header, *rows] if header else rows)
    return folder


def films(folder: Path, count: int = 20) -> list[tuple[str, str, str]]:
    """Draw films under names that name patients; return their rows."""
    rows = []
    for number in range(count):
        name = f"KOWALCZYK/Thistlewood_{number}.png"
        draw(folder / name, number)
        rows.append((name, "sick" if number % 2 else "well", f"ID-77310{number}"))
    return rows


def unreadable(folder: Path) -> Path:
    rows = films(folder)
    for path, _, _ in rows[:12]:
        (folder / path).write_bytes(b"no picture")
    return table(folder, rows)


def none_usable(folder: Path) -> Path:
    return table(folder, [(f"KOWALCZYK_{n}.png", "well", f"ID-77310{n}") for n in range(3)])


def twice(folder: Path) -> Path:
    rows = films(folder)
    return table(folder, [*rows, rows[0], rows[1]])


def no_split(folder: Path) -> Path:
    rows = [(*row, "train") for row in films(folder)]
    return table(folder, [*rows[:-1], (*rows[-1][:3], "Thistlewood")], ("path", "label", "patient_id", "split"))


def no_header(folder: Path) -> Path:
    return table(folder, [row[::-1] for row in films(folder)], header=None)


def a_folder_for_each_patient(folder: Path) -> Path:
    for number, name in enumerate(("KOWALCZYK", "Thistlewood")):
        draw(folder / name / "1.png", number)
    return folder


def a_class_that_is_none(folder: Path) -> Path:
    rows = films(folder)
    return table(folder, [*rows[:-1], (rows[-1][0], rows[-1][2], rows[-1][2])])


def an_archive(folder: Path) -> Path:
    unreadable(folder)
    target = folder.parent / "films.zip"
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder))
    return target


@pytest.mark.parametrize("command", ["ingest", "run"])
@pytest.mark.parametrize(
    ("make", "code", "kept"),
    [
        (unreadable, 6, "Thistlewood_0"),
        (none_usable, 6, "KOWALCZYK_0.png"),
        (twice, 3, "Thistlewood_0.png in lines 2, 22"),
        (no_split, 3, "Thistlewood_19.png"),
        (no_header, 3, "ID-773100"),
        (a_folder_for_each_patient, 3, "KOWALCZYK"),
        (a_class_that_is_none, 3, "ID-7731019"),
        (an_archive, 6, "Thistlewood_0"),
    ],
)
def test_ingest_says_where_the_names_are_and_not_which(tmp_path, capfd, command, make, code, kept):
    (tmp_path / "in").mkdir()
    source, out = make(tmp_path / "in"), tmp_path / "out"
    options = ["--input", str(source), "--output", str(out), "--set", "ingest.image_size=16", "--set", "threads=1"]
    options += ["--set", "ingest.classes=[sick, well]"] if make is a_class_that_is_none else []
    assert main([command, *options]) == code
    shown = capfd.readouterr()
    for name in NAMES:
        assert name.casefold() not in (shown.out + shown.err).casefold()
    line = shown.err.strip().splitlines()[-1]
    details = out / "ingest" / "error.txt"
    assert re.search(rf"; \d+ details? that may name files or patients: see {re.escape(str(details))}$", line)
    assert stat.S_IMODE(details.stat().st_mode) == 0o600
    assert stat.S_IMODE(details.parent.stat().st_mode) == 0o700
    assert kept in details.read_text()
    # the status and the events neither
    for file in ("status.json", "events.jsonl"):
        assert not [name for name in NAMES if name in (out / file).read_text()]


def test_deidentify_keeps_names_beside_its_output(tmp_path, capfd):
    (tmp_path / "in").mkdir()
    unreadable(tmp_path / "in")
    key = tmp_path / "key"
    key.write_text(KEY)
    key.chmod(0o600)
    out = tmp_path / "out"
    assert main(["deidentify", str(tmp_path / "in"), str(out), "--key-file", str(key)]) == 6
    shown = capfd.readouterr()
    assert not [name for name in NAMES if name in shown.out + shown.err]


def test_pull_does_not_repeat_a_table_without_a_header(tmp_path, capfd):
    pytest.importorskip("pynetdicom")
    numbers = tmp_path / "numbers.csv"
    numbers.write_text("accession_numbr_ACC90210\nACC90211\n")
    command = ["pull", str(tmp_path / "in"), "--peer", "127.0.0.1:9", "--accessions", str(numbers)]
    assert main(command) == 3
    shown = capfd.readouterr()
    assert "needs a column accession_number" in shown.err
    assert "ACC9021" not in shown.out + shown.err


def test_scoring_on_real_films_keeps_names_beside_the_weights(tiny, tmp_path, capfd):
    (tmp_path / "in").mkdir()
    source, out = none_usable(tmp_path / "in"), tmp_path / "network.safetensors"
    capfd.readouterr()
    assert main(["train", str(tiny.finished / "bundle"), "--output", str(out), "--test", str(source)]) == 6
    shown = capfd.readouterr()
    assert not [name for name in NAMES if name in shown.out + shown.err]
    details = tmp_path / "network.safetensors.error.txt"
    assert f"see {details}" in shown.err
    assert "KOWALCZYK_0.png" in details.read_text()


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (PermissionError(13, "Permission denied", "IN/KOWALCZYK/Thistlewood_1.png"), "Permission denied"),
        (FileNotFoundError(2, "No such file or directory", "IN/KOWALCZYK"), "No such file"),
        (ResourceError("cannot write IN/KOWALCZYK/x: the disk is full"), "the disk is full"),
        (KeyError("Thistlewood"), "internal error: KeyError"),
        (UnicodeDecodeError("utf-8", b"KOWALCZYK\xff", 9, 10, "invalid start byte"), "UnicodeDecodeError"),
        (IngestError("'thistlewood_1' is no label"), "is no label"),
    ],
)
def test_an_error_of_the_system_is_shown_without_names(tmp_path, error, line):
    films(tmp_path / "IN")
    if isinstance(error, OSError):
        error.filename = error.filename.replace("IN", str(tmp_path / "IN"))
    public = make_public(error, [tmp_path / "IN"], ["run", "--input", str(tmp_path / "IN")])
    assert line in public.line
    assert not [name for name in NAMES if name.casefold() in public.line.casefold()]
    assert public.withheld
    assert (getattr(error, "filename", None) or str(error)) in public.details


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cannot read /data/Thistlewood_1.png: a word", "cannot read /data/(withheld): a word"),
        ("'AB' has 1 patient", "'(withheld)' has 1 patient"),
        ("class well has no images", "class well has no images"),
        ("7 of 12 files are labels of AB or of", "7 of 12 files are labels of AB or of"),
        ("patient ID-773101, accession ACC90210", "patient (withheld), accession (withheld)"),
        ("folder of the test split", "folder of the test split"),
    ],
)
def test_words_of_the_message_itself_stay(tmp_path, text, shown):
    draw(tmp_path / "AB" / "Thistlewood_1.png")
    draw(tmp_path / "test" / "of" / "1.png")
    table(tmp_path, [("AB/Thistlewood_1.png", "well", "ID-773101", "ACC90210")], ("path", "label", "patient_id", "x"))
    assert withhold_names(text, [tmp_path])[0] == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("raise ingest.max_quarantine; run again", "raise ingest.max_quarantine; run again"),
        ("an exclusion without reason: set ingest.exclusions", "an exclusion without reason: set ingest.exclusions"),
        ("all in Run were read", "all in (withheld) were read"),
        ("class 'COVID-19' has 2 patients", "class '(withheld)' has 2 patients"),
        ("class 'pre-covid' has 2 patients", "class '(withheld)' has 2 patients"),
        ("KOWALCZYK-7 is odd", "(withheld) is odd"),
    ],
)
def test_names_that_are_words_of_ours_are_told_apart_and_parts_of_words_are_not_left(tmp_path, text, shown):
    for folder in ("Run", "max_quarantine", "Ingest", "exclusions", "COVID", "KOWALCZYK"):
        draw(tmp_path / folder / "reason.png")
    assert withhold_names(text, [tmp_path])[0] == shown


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("ROOT/KOWALCZYK: no labels", "ROOT/KOWALCZYK: no labels"),
        ("ROOT/KOWALCZYK/Thistlewood.png: odd", "ROOT/KOWALCZYK/(withheld): odd"),
        ("ROOT/mine.yaml: unknown key", "ROOT/mine.yaml: unknown key"),
        ("--set a.mine=2: no number", "--set a.mine=2: no number"),
    ],
)
def test_what_the_user_wrote_is_repeated(tmp_path, line, shown):
    draw(tmp_path / "KOWALCZYK" / "Thistlewood.png")
    (tmp_path / "mine.yaml").write_text("")
    typed = [
        "run",
        "--input",
        str(tmp_path / "KOWALCZYK"),
        "--config",
        str(tmp_path / "mine.yaml"),
        "--set",
        "a.mine=2",
    ]
    found = make_public(IngestError(line.replace("ROOT", str(tmp_path))), [tmp_path], typed)
    assert found.line == shown.replace("ROOT", str(tmp_path))


def test_libraries_speak_to_a_private_file(tmp_path, capfd):
    arguments = make_parser().parse_args(["receive", str(tmp_path / "spool")])
    with keep_library_messages(arguments):
        logging.getLogger("a.library").error("cannot read KOWALCZYK")
        warnings.warn("Thistlewood is odd", UserWarning, stacklevel=1)
    shown = capfd.readouterr()
    log = tmp_path / "spool.error.log"
    assert shown.err == f"medidistill: 2 messages of libraries that may name files or patients: see {log}\n"
    assert "KOWALCZYK" in log.read_text()
    assert "Thistlewood" in log.read_text()
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_debug_shows_where_and_not_what(tmp_path, capfd):
    arguments = make_parser().parse_args(["receive", str(tmp_path / "spool"), "--quiet", "--debug"])
    error = RuntimeError(NAMES[1])
    error.__cause__ = KeyError(NAMES[0])
    with pytest.raises(RuntimeError) as caught:
        raise error
    assert fail(caught.value, arguments, ["receive", "spool"]) == 1
    shown = capfd.readouterr().err
    assert shown.count("Traceback") == 2  # of the error and of its cause
    assert f'File "{__file__}"' in shown
    assert not [name for name in NAMES if name in shown]
    details = (tmp_path / "spool.error.txt").read_text()
    assert "KOWALCZYK" in details
    assert "Thistlewood" in details


def test_details_that_cannot_be_kept_are_not_shown_instead(tmp_path, capfd):
    (tmp_path / "file").write_text("")
    arguments = make_parser().parse_args(["receive", str(tmp_path / "file" / "spool"), "--quiet"])
    assert fail(IngestError("odd", private=["KOWALCZYK"]), arguments, []) == 3
    shown = capfd.readouterr().err
    assert "1 detail that may name files or patients could not be kept" in shown
    assert "KOWALCZYK" not in shown
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def as_workbook(rows, path: Path) -> None:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(list(row))
    book.save(path.with_suffix(".xlsx"))


KINDS = {
    "UTF-16": lambda rows, path: path.write_text("\n".join(map("\t".join, rows)), "utf-16"),
    "sep=": lambda rows, path: path.write_text("\n".join(["sep=|", *map("|".join, rows)])),
    "semicolons": lambda rows, path: path.write_text("\ufeff" + "\n".join(map(";".join, rows)), "utf-8"),
    "tabs": lambda rows, path: path.write_text("\n".join(map("\t".join, rows))),
    "workbook": as_workbook,
}


@pytest.mark.parametrize("place", ["", "export/2024/", "zip"])
@pytest.mark.parametrize("kind", KINDS)
def test_cells_of_tables_of_every_kind_are_withheld(tmp_path, capfd, kind, place):
    folder = tmp_path / "in" / (place if place != "zip" else "")
    folder.mkdir(parents=True)
    rows = [("path", "label", "patient_id")]
    for number in range(6):
        draw(folder / f"{number}.png", number)
        rows.append((f"{number}.png", "sick" if number % 2 else "well", f"Thistlewood ID-77310{number}"))
    rows[-1] = (rows[-1][0], *rows[-1][2:] * 2)  # the identifier stands in the column of labels, too
    KINDS[kind](rows, folder / "labels.csv")
    name = "labels.xlsx" if kind == "workbook" else "labels.csv"
    source = tmp_path / "in"
    if place == "zip":
        source = tmp_path / "films.zip"
        with zipfile.ZipFile(source, "w") as archive:
            for path in sorted(folder.iterdir()):
                archive.write(path, f"export/{path.name}")
    options = [
        "--set",
        "ingest.image_size=16",
        "--set",
        f"ingest.labels={name}",
        "--set",
        "ingest.classes=[sick, well]",
    ]
    assert main(["ingest", "--input", str(source), "--output", str(tmp_path / "out"), "--quiet", *options]) == 3
    shown = capfd.readouterr()
    assert "is not one of the classes" in shown.err
    assert not [one for one in NAMES if one in shown.out + shown.err]
    assert "Thistlewood ID-773105" in (tmp_path / "out/ingest/error.txt").read_text()


def test_a_column_of_names_in_the_place_of_labels_is_refused_without_them(tmp_path, capfd):
    (tmp_path / "in").mkdir()
    for number in range(21):
        draw(tmp_path / "in" / f"{number}.png", number)
    rows = [(f"{number}.png", f"KOWALCZYK-{number}") for number in range(21)]
    table(tmp_path / "in", rows, ("path", "label"))
    command = ["ingest", "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--quiet"]
    assert main(command) == 3
    shown = capfd.readouterr()
    assert "21 labels would be classes, more than 20" in shown.err
    assert "KOWALCZYK" not in shown.out + shown.err
    assert "KOWALCZYK-7" in (tmp_path / "out/ingest/error.txt").read_text()


@pytest.mark.parametrize("folder", [b"KOWALCZYK\nEva", b"KOWALCZYK  Eva", b"KOWALCZYK\x1b[31m", b"M\xfcller KOWALCZYK"])
def test_names_are_withheld_in_the_form_that_a_message_gives_them(tmp_path, folder):
    here = Path(os.fsdecode(os.fsencode(tmp_path / "in") + b"/" + folder))
    here.mkdir(parents=True)
    public = make_public(IngestError(f"{here}/labels.csv: not a readable CSV"), [tmp_path / "in"])
    assert public.line == f"{tmp_path}/in/(withheld)/(withheld): not a readable CSV".replace(
        "(withheld):", "labels.csv:"
    )
    assert "KOWALCZYK" in public.details
    public.details.encode()


def test_a_path_of_the_command_line_is_repeated_in_whatever_bytes(tmp_path):
    here = Path(os.fsdecode(os.fsencode(tmp_path) + b"/M\xfcller"))
    here.mkdir()
    (here / "M\udcfcller").mkdir()
    public = make_public(IngestError(f"{here}: no labels"), [here], ["ingest", "--input", str(here)])
    assert public.line == f"{tmp_path}/M\\xfcller: no labels"
