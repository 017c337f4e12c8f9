"""Zip files as Finder, PowerShell 5, 7-Zip and old Windows make them, damaged ones, and ones that mean harm."""

from __future__ import annotations

import io
import stat
import struct
import unicodedata
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medidistill.config import IngestConfig
from medidistill.errors import IngestError, ResourceError
from medidistill.ingest import ingest
from medidistill.ingest.sources import find_records, workspace
from medidistill.ingest.sources.archive import ArchiveLimits, unpack

CONFIG = IngestConfig(image_size=16)
APPLE_DOUBLE = bytes.fromhex("0005160700020000") + b"Mac OS X        " + bytes(64)


def picture(seed):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (20, 20), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


PICTURES = {(label, i): picture(10 * k + i) for k, label in enumerate(("cat", "dog")) for i in range(4)}
TABLE = "path,label\n" + "".join(f"{label}{i}.png,{label}\n" for label, i in PICTURES)


def entry(name, *, mode=0, attributes=0, utf8=None, system=None):
    """Return an entry whose name is stored as it is, backslashes included."""
    info = zipfile.ZipInfo("x")
    info.filename = name
    info.external_attr = mode << 16 | attributes
    if system is not None:
        info.create_system = system
    return info


def pack(path, *members, method=zipfile.ZIP_DEFLATED):
    """Write (name or entry, bytes) into a zip file."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


def classes(form="{label}/{i}.png"):
    return [(form.format(label=label, i=i), data) for (label, i), data in PICTURES.items()]


def renamed(path, names):
    """Give entries other bytes as names, of the same length, without the flag of UTF-8."""
    data = path.read_bytes()
    for old, new in names.items():
        assert len(old) == len(new)
        assert data.count(old) == 2  # the local header and the directory
        data = data.replace(old, new)
    path.write_bytes(data)
    return path


def found(source, tmp_path, **settings):
    with workspace(tmp_path / "private") as place:
        return find_records(source, IngestConfig(image_size=16, **settings), place)


def keys(result):
    return sorted(f"{record.label}: {record.key}" for record in result.records)


AS_FOLDER = sorted(f"{label}: {label}/{i}.png" for label, i in PICTURES)
FINDER = [("xrays/", b""), ("xrays/.DS_Store", b"Bud1"), ("__MACOSX/xrays/._.DS_Store", APPLE_DOUBLE)]
LAYOUTS = {
    "finder, a folder of classes": [
        *FINDER,
        *classes("xrays/{label}/{i}.png"),
        *[(f"__MACOSX/xrays/{label}/._{i}.png", APPLE_DOUBLE) for label, i in PICTURES],
    ],
    "finder, classes without a folder around them": [
        *classes(),
        *[(f"__MACOSX/{label}/._{i}.png", APPLE_DOUBLE) for label, i in PICTURES],
    ],
    "powershell 5, backslashes": [(entry(f"{label}\\{i}.png"), data) for (label, i), data in PICTURES.items()],
    "powershell 5, entries for folders": [
        (entry("xrays\\"), b""),
        (entry("xrays\\cat\\"), b""),
        (entry("xrays\\dog\\"), b""),
        *[(entry(f"xrays\\{label}\\{i}.png"), data) for (label, i), data in PICTURES.items()],
    ],
    "folders marked by attributes alone": [
        (entry("cat", attributes=0x10, system=0), b""),
        (entry("dog", mode=stat.S_IFDIR | 0o755), b""),
        *classes(),
    ],
    "two wrappers": classes("export/2024/{label}/{i}.png"),
    "texts beside the wrapper": [("README.txt", b"terms"), ("LICENSE", b"x"), *classes("xrays/{label}/{i}.png")],
    "leading dot and slash": [
        ("./", b""),
        *[(entry(f"./xrays/{label}/{i}.png"), d) for (label, i), d in PICTURES.items()],
    ],
    "windows left-overs": [("Thumbs.db", b"x"), ("cat/Thumbs.db", b"x"), ("cat/desktop.ini", b"x"), *classes()],
}


@pytest.mark.parametrize("members", LAYOUTS.values(), ids=LAYOUTS)
def test_zip_is_read_as_the_folder_it_came_from(tmp_path, members):
    result = found(pack(tmp_path / "a.zip", *members), tmp_path)
    assert keys(result) == AS_FOLDER
    assert not result.quarantine


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_methods_are_unpacked(tmp_path, method):
    assert keys(found(pack(tmp_path / "a.zip", *classes(), method=method), tmp_path)) == AS_FOLDER


def test_zip64_entries_are_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name, data in classes():
            with archive.open(name, "w", force_zip64=True) as file:
                file.write(data)
    assert keys(found(tmp_path / "a.zip", tmp_path)) == AS_FOLDER


def test_finder_with_a_table_reads_the_table(tmp_path):
    members = [(f"xrays/{label}{i}.png", data) for (label, i), data in PICTURES.items()]
    members += [("xrays/labels.csv", TABLE), ("__MACOSX/xrays/._labels.csv", APPLE_DOUBLE)]
    result = found(pack(tmp_path / "a.zip", *members), tmp_path)
    assert keys(result) == sorted(f"{label}: {label}{i}.png" for label, i in PICTURES)


def test_colon_in_a_name_is_no_way_out(tmp_path):
    result = found(pack(tmp_path / "a.zip", *classes("{label}/2024-01-01T10:0{i}.png")), tmp_path)
    assert len(result.records) == 8


def test_names_composed_in_another_way_than_in_the_table_are_found(tmp_path):
    names = {(label, i): f"Größe_é_{label}{i}.png" for label, i in PICTURES}
    table = "path,label\n" + "".join(f"{name},{label}\n" for (label, _), name in names.items())
    members = [(unicodedata.normalize("NFD", names[one]), data) for one, data in PICTURES.items()]
    result = found(pack(tmp_path / "a.zip", *members, ("labels.csv", table)), tmp_path)
    assert len(result.records) == 8
    assert not result.quarantine


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("Größe".encode("cp850"), "Größe"),  # the same bytes in code page 437
        ("Øre".encode("cp850"), "Øre"),  # others in 437, which has no such letter
        ("Łódź".encode("cp852"), "Łódź"),
        ("Größe".encode("cp1252"), "Größe"),
        ("Größe".encode(), "Größe"),  # UTF-8 that is not marked as such: macOS
    ],
    ids=["cp850 as 437", "cp850", "cp852", "cp1252", "UTF-8 without its flag"],
)
def test_names_in_code_pages_are_found_by_the_names_of_the_table(tmp_path, raw, name):
    members = [(f"{'#' * len(raw)}{label}{i}.png", data) for (label, i), data in PICTURES.items()]
    table = "path,label\n" + "".join(f"{name}{label}{i}.png,{label}\n" for label, i in PICTURES)
    path = pack(tmp_path / "a.zip", *members, ("labels.csv", table))
    renamed(path, {member.encode(): raw + member.lstrip("#").encode() for member, _ in members})
    result = found(path, tmp_path)
    assert len(result.records) == 8
    assert not result.quarantine
    guessed = [note for note in result.notes if "code page 437" in note]
    assert len(guessed) == (raw != name.encode())


@pytest.mark.parametrize(("changed", "expected"), [(0, "øre.png"), (1, "¢re.png")])
def test_unicode_path_field_gives_the_name_unless_it_belongs_to_another(tmp_path, changed, expected):
    raw, told = b"\x9bre.png", "øre.png".encode()
    info = zipfile.ZipInfo("###.png")
    info.extra = struct.pack("<HHBI", 0x7075, 5 + len(told), 1, zlib.crc32(raw) ^ changed) + told
    path = renamed(pack(tmp_path / "a.zip", (info, b"x")), {b"###.png": raw})
    unpacked = unpack(path, tmp_path / "out")
    assert [one.name for one in unpacked.folder.iterdir()] == [expected]
    assert unpacked.guessed == changed


@pytest.mark.parametrize(
    "name",
    [
        *("../x.png", "a/../../x.png", "..\\x.png", "a\\..\\..\\x.png", "/etc/x.png", "\\x.png", "\\\\host\\x.png"),
        *("C:/x.png", "C:\\x.png", "c:x.png", "..", "../"),
    ],
)
def test_name_that_leads_out_refuses_the_whole_before_a_byte_is_written(tmp_path, name):
    pack(tmp_path / "a.zip", *classes(), (entry(name), b"x"))
    with pytest.raises(
        IngestError, match="entry 9 of the archive leads out of the folder; refused as a whole"
    ) as caught:
        unpack(tmp_path / "a.zip", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert "x.png" not in str(caught.value)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK])
def test_entry_that_is_no_file_refuses_the_whole(tmp_path, kind):
    pack(tmp_path / "a.zip", *classes(), (entry("cat/link", mode=kind | 0o777), b"/etc/passwd"))
    with pytest.raises(IngestError, match="entry 9 of the archive is a link or a device"):
        unpack(tmp_path / "a.zip", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (
            [("normal", b"notes"), ("normal/1.png", b"x")],
            "entry 1 of the archive is a file where entry 2 needs a folder",
        ),
        (
            [("Normal", b"notes"), ("normal/1.png", b"x")],
            "entry 1 of the archive is a file where entry 2 needs a folder",
        ),
        ([("a/1.png", b"x"), (entry("a\\1.png"), b"y")], r"entry 2 of the archive is there twice \(entry 1\)"),
        ([("a/1.png", b"x"), ("A/1.PNG", b"y")], r"there twice \(entry 1, but for case or composed letters\)"),
        ([("é.png", b"x"), (unicodedata.normalize("NFD", "é.png"), b"y")], "but for case or composed letters"),
        ([("a/", b"x"), ("a/1.png", b"y")], "entry 1 of the archive is a folder that holds bytes"),
    ],
)
def test_names_that_exclude_each_other_are_refused_and_not_called_a_full_disk(tmp_path, members, message):
    pack(tmp_path / "a.zip", *members)
    with pytest.raises(IngestError, match=message):
        unpack(tmp_path / "a.zip", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_name_longer_than_the_file_system_allows_costs_its_entry(tmp_path):
    long, wide = "x" * 300 + ".png", "ü" * 130 + ".png"
    result = found(pack(tmp_path / "a.zip", *classes(), (f"cat/{long}", b"x"), (f"dog/{wide}", b"x")), tmp_path)
    assert keys(result) == AS_FOLDER
    assert [one.key for one in result.quarantine] == [f"cat/{long}", f"dog/{wide}"]
    assert {one.reason for one in result.quarantine} == {"its name is longer than this file system allows (255 bytes)"}


def test_entry_in_too_many_folders_costs_itself_and_no_recursion(tmp_path):
    deep = "a/" * 1500 + "1.png"
    result = found(pack(tmp_path / "a.zip", *classes(), (deep, b"x")), tmp_path)
    assert keys(result) == AS_FOLDER
    assert [one.reason for one in result.quarantine] == ["it lies more than 100 folders deep"]


@pytest.mark.parametrize(
    ("method", "name"), [(9, "Deflate64"), (93, "Zstandard"), (98, "PPMd"), (1, "Shrink"), (77, "method 77")]
)
def test_unknown_method_is_named(tmp_path, method, name):
    path = pack(tmp_path / "a.zip", *classes())
    data = bytearray(path.read_bytes())
    start = data.rindex(b"PK\x01\x02")
    data[start + 10 : start + 12] = struct.pack("<H", method)
    path.write_bytes(data)
    with pytest.raises(
        IngestError, match=f"entry 8 of the archive is packed by {name}, which is not read here; unpack it yourself"
    ):
        unpack(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_encrypted_entry_is_named_as_such(tmp_path):
    path = pack(tmp_path / "a.zip", *classes())
    data = bytearray(path.read_bytes())
    start = data.rindex(b"PK\x01\x02")
    data[start + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(IngestError, match="entry 8 of the archive is encrypted; unpack it yourself"):
        unpack(path, tmp_path / "out")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_flipped_bits_are_one_sentence_and_no_disk_error(tmp_path, method):
    path = pack(tmp_path / "a.zip", *classes(), method=method)
    whole, messages = path.read_bytes(), []
    for place in range(0, len(whole), 41):
        data = bytearray(whole)
        data[place] ^= 0x10
        path.write_bytes(data)
        try:
            unpack(path, tmp_path / f"out{place}")
        except IngestError as error:
            messages.append(str(error))
            left = (tmp_path / f"out{place}").exists()
            assert not left
    assert len(messages) > 10
    assert all(str(path) in message and "\n" not in message for message in messages)


@pytest.mark.parametrize("length", [4, 30, 100, -22, -1])
def test_archive_that_was_cut_short_says_so(tmp_path, length):
    path = pack(tmp_path / "a.zip", *classes())
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(IngestError, match=r"its end is missing: it was cut short|it is damaged, cut short"):
        found(path, tmp_path)


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"7z\xbc\xaf\x27\x1c", "7z"),
        (b"Rar!\x1a\x07", "RAR"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"\0" * 257 + b"ustar", "tar"),
    ],
)
def test_other_archives_are_named(tmp_path, start, kind):
    (tmp_path / "a").write_bytes(start + bytes(600))
    with pytest.raises(IngestError, match=rf"an archive of another kind \({kind}\) than zip; unpack it"):
        found(tmp_path / "a", tmp_path)


def test_bombs_by_claim_by_number_and_by_what_comes_out(tmp_path):
    limits = ArchiveLimits(files=3, size=1 << 20, ratio=10, free=1000)
    pack(tmp_path / "ratio.zip", ("a", bytes(100_000)))
    pack(tmp_path / "files.zip", *[(str(i), b"x") for i in range(4)])
    pack(tmp_path / "size.zip", ("a", np.random.default_rng(0).bytes(2 << 20)))
    for name, message in (
        ("ratio", "more than 10 times"),
        ("files", "4 files .* at most 3"),
        ("size", "at most 1048576"),
    ):
        with pytest.raises(IngestError, match=message):
            unpack(tmp_path / f"{name}.zip", tmp_path / "out", limits=limits)
        assert not (tmp_path / "out").exists()


def test_messages_name_the_archive_and_not_the_folder_that_is_gone(tmp_path):
    with pytest.raises(IngestError, match=r"a\.zip: the folder is empty") as caught:
        found(pack(tmp_path / "a.zip"), tmp_path)
    assert "private" not in str(caught.value)
    with pytest.raises(IngestError, match=r"a\.zip/x: pictures lie right below folders .*\(test, train\)"):
        found(pack(tmp_path / "a.zip", ("x/train/1.png", picture(1)), ("x/test/2.png", picture(2))), tmp_path)


def test_what_is_kept_private_about_an_archive_is_kept(tmp_path):
    rows = b"path,label\nPHANTOM_A.png,cat\nPHANTOM_B.png,dog\nPHANTOM_A.png,cat\n"
    pictures = [("PHANTOM_A.png", picture(1)), ("PHANTOM_B.png", picture(2))]
    with pytest.raises(
        IngestError, match=r"a\.zip/labels\.csv: 1 file is listed more than once \(lines 2, 4\)"
    ) as caught:
        found(pack(tmp_path / "a.zip", *pictures, ("labels.csv", rows)), tmp_path)
    assert caught.value.private == ("PHANTOM_A.png in lines 2, 4",)
    assert "PHANTOM" not in str(caught.value)


def test_a_full_disk_is_a_resource_error(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10})())
    with pytest.raises(ResourceError, match=r"unpacks to .* bytes, 10 are free"):
        unpack(pack(tmp_path / "a.zip", *classes()), tmp_path / "out")


def test_an_archive_from_memory(tmp_path):
    data = io.BytesIO(pack(tmp_path / "a.zip", *classes()).read_bytes())
    folder = unpack(data, tmp_path / "out", name="upload").folder
    assert len(list(folder.rglob("*.png"))) == 8
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    with pytest.raises(IngestError, match="upload: not a readable zip file"):
        unpack(io.BytesIO(b"PK\x03\x04" + bytes(50)), tmp_path / "out2", name="upload")


def test_the_digest_of_a_zip_is_that_of_its_folder(tmp_path):
    for name, data in classes("in/{label}/{i}.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    packed = ingest(pack(tmp_path / "a.zip", *LAYOUTS["two wrappers"]), CONFIG)
    assert packed.digest == ingest(tmp_path / "in", CONFIG).digest
    assert Path(tmp_path / "a.zip").is_file()
