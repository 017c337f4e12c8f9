"""Random folders, zip files and tables of labels, hostile ones among them, for fuzzing the sources of ingest."""

from __future__ import annotations

import io
import os
import random
import stat
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
from PIL import Image

_FOLDERS = [
    "train",
    "Test",
    "VAL",
    "valid",
    "dev",
    "Normal",
    "normal",
    "pneumonia ",
    "COVID-19",
    "covid_19",
    "1",
    "1.0",
]
_FOLDERS += [
    "images",
    "masks",
    "__MACOSX",
    ".hidden",
    "p1",
    "p2",
    "data",
    "x\ny",
    "é",
    "e\u0301",
    "ü" * 90,
    " ",
    "-1.0",
]
_FOLDERS += ["\u202egnp", "a:b", "C:", "con", "@eaDir", "Viral Pneumonia", "Lung Mask"]
_FILES = ["1.png", "2.png", "3.PNG", "1.dcm", "a", "DICOMDIR", "README.txt", "Thumbs.db", "._1.png", "labels.csv"]
_FILES += ["labels.xlsx", "x.zip", "x.npz", "COVID-19.metadata.xlsx", "a,b;c.png", 'q"uote.png', "new\nline.png"]
_FILES += ["gr\u00f6\u00dfe.png", "gro\u0308\u00dfe.png", "x" * 250, "~$labels.csv", "-rf", "\u202e.png", "1.png "]
_BYTES = [b"M\xfcller.png", b"unauff\xe4llig", b"\xff\xfe", b"caf\xe9"]
_IDS = ["", "12", "012", "12.0", "AB 1", "ab1", "ANONYMOUS", "nan", "1,234", "1234", "PHANTOM^A", "\u0661\u0662"]
_COLUMNS = [
    "path",
    "file",
    "label",
    "patient_id",
    "split",
    "sex",
    "age",
    "site",
    "view",
    "sop_instance_uid",
    "note",
    "",
]
_LABELS = ["Normal", "normal", "COVID-19", "1", "1.0", "-1", "", "x\ty", "unauffällig"]
_ENCODINGS = ["utf-8"] * 6 + ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252", "latin-1"]


def _picture(seed: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (12, 12), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


PICTURES = [_picture(seed) for seed in range(40)]


class Generator:
    """Makes one random source from a seed.

    Args:
        seed: decides everything.
        outside: a folder beside the source that nothing may be read from.
        radiographs: bytes of DICOM files.
    """

    def __init__(self, seed: int, outside: Path, radiographs: list[bytes]) -> None:
        self.random = random.Random(seed)
        self.outside, self.radiographs = outside, radiographs

    def source(self, place: Path) -> Path:
        """Make a folder or a zip file in `place` and return it."""
        kind = self.random.random()
        if kind < 0.45:
            return self._folder(place / "in")
        if kind < 0.85:
            return self._archive(place / "in.zip")
        if kind < 0.95:
            folder = self._folder(place / "in")
            path = place / "packed.zip"
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                for file in sorted(one for one in folder.rglob("*") if one.is_file() and not one.is_symlink()):
                    name = os.fsencode(file.relative_to(folder)).decode("utf-8", "replace")
                    archive.writestr(zipfile.ZipInfo(name), file.read_bytes())
            return self._damaged(path)
        (place / "in").write_bytes(self._content())
        return place / "in"

    def _content(self) -> bytes:
        kind = self.random.random()
        if kind < 0.6:
            return self.random.choice(PICTURES)
        if kind < 0.8:
            return self.random.choice(self.radiographs)
        return self.random.choice(
            [b"", b"text", b"PK\x03\x04", b"\x89PNG\r\n\x1a\n", bytes(200), b"II*\0", b"\xff\xd8\xff"]
        )

    def _name(self, names: list[str]) -> str:
        if self.random.random() < 0.04:
            return os.fsdecode(self.random.choice(_BYTES))
        return self.random.choice(names)

    def _folder(self, root: Path) -> Path:
        root.mkdir()
        places = [root]
        layout = self.random.choice([("Normal", "COVID-19"), ("train", "test", "VAL"), ("1", "1.0"), ("p1", "p2"), ()])
        for name in layout:
            for inner in self.random.choice([("",), ("Normal", "COVID-19"), ("images", "masks"), ("train", "test")]):
                here = root / name / inner if inner else root / name
                here.mkdir(parents=True, exist_ok=True)
                places.append(here)
                for i in range(self.random.randrange(4)):
                    (here / f"{i}.png").write_bytes(self._content())
        for _ in range(self.random.randrange(14)):
            self._entry(root, places)
        if self.random.random() < 0.45:
            self._table(root, self.random.choice(places))
        return root

    def _entry(self, root: Path, places: list[Path]) -> None:
        here, kind = self.random.choice(places), self.random.random()
        path = here / self._name(_FOLDERS if kind < 0.35 else _FILES)
        try:
            if kind < 0.35:
                path.mkdir()
                places.append(path)
            elif kind < 0.7:
                path.write_bytes(self._content())
            elif kind < 0.93:
                path.symlink_to(self._target(root, places))
            elif kind < 0.97:
                os.mkfifo(path)
            else:
                path.hardlink_to(
                    self.random.choice([one for one in here.iterdir() if one.is_file()] or [root / "none"])
                )
        except OSError:
            pass  # the name is taken, or too long here

    def _target(self, root: Path, places: list[Path]) -> str:
        inner = self.random.choice(places)
        return self.random.choice(
            [
                *(str(self.outside), str(self.outside / "secret.png"), str(self.outside / "labels.csv"), "/etc", "/"),
                *(
                    "/proc/self/root",
                    "/dev/zero",
                    "/etc/passwd",
                    "..",
                    ".",
                    "self",
                    "../../outside",
                    "none",
                    "/nonexistent",
                ),
                *(str(inner), str(inner / "1.png"), os.path.relpath(inner, root), f"{inner}/../../outside"),
            ]
        )

    def _table(self, root: Path, folder: Path) -> None:
        files = [one for one in root.rglob("*") if one.is_file()]
        columns = self.random.sample(_COLUMNS, self.random.randrange(1, 7))
        if self.random.random() < 0.8:
            columns = ["path", "label", *columns]
        self.random.shuffle(columns)
        rows = [[self._cell(name, root, files) for name in columns] for _ in range(self.random.randrange(8))]
        target = folder / self.random.choice(["labels.csv"] * 5 + ["labels.xlsx", "Labels.csv"])
        try:
            write = self._workbook if self.random.random() < 0.15 else self._text
            data = write([columns, *rows])
            target.write_bytes(self._mutated(data) if self.random.random() < 0.25 else data)
        except (OSError, UnicodeError):
            pass

    def _cell(self, column: str, root: Path, files: list[Path]) -> str:
        if column in ("path", "file"):
            path = str(self.random.choice(files).relative_to(root)) if files else "1.png"
            path = os.fsencode(path).decode("utf-8", "replace")
            changes = [path, path, path, path.replace("/", "\\"), path.upper(), f"./{path}", f"../{root.name}/{path}"]
            changes += [str(root / path), "../outside/secret.png", str(self.outside / "secret.png"), "/etc/passwd", ""]
            return self.random.choice(changes)
        values = {"label": _LABELS, "patient_id": _IDS, "split": ["train", "Val", "test", "", "holdout"]}
        return self.random.choice(values.get(column, ["", "x", "54", "F", "two\nlines", 'q"q', "a,b;c"]))

    def _text(self, rows: list[list[str]]) -> bytes:
        delimiter = self.random.choice([",", ",", ";", "\t", "|", "#"])
        quote, lines = self.random.random(), []
        for row in rows:
            cells = ['"' + cell.replace('"', '""') + '"' if quote < 0.6 else cell for cell in row]
            lines.append(delimiter.join(cells) + (delimiter * self.random.randrange(3) if quote < 0.3 else ""))
            if self.random.random() < 0.1:
                lines.append(self.random.choice(["", delimiter, "   ", '"']))
        if self.random.random() < 0.2:
            lines.insert(0, f"sep={delimiter}")
        end = self.random.choice(["\n", "\r\n", "\r"])
        return end.join(lines).encode(self.random.choice(_ENCODINGS), "replace")

    def _workbook(self, rows: list[list[str]]) -> bytes:
        book, buffer = openpyxl.Workbook(), io.BytesIO()
        for row in rows:
            book.active.append(["".join(c for c in cell if c.isprintable()) for cell in row])
        book.save(buffer)
        return buffer.getvalue()

    def _archive(self, path: Path) -> Path:
        method = self.random.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
        wrapper = self.random.choice(["", "", "xrays/", "export/2024/", "./", "a\\"])
        with zipfile.ZipFile(path, "w", method) as archive:
            for label in self.random.sample(["Normal", "COVID-19", "train/Normal", "test/Normal", "p1"], 2):
                for i in range(self.random.randrange(4)):
                    self._pack(archive, f"{wrapper}{label}/{i}.png")
            for _ in range(self.random.randrange(10)):
                self._pack(archive, self._strange_name(wrapper))
            if self.random.random() < 0.3:
                rows = [
                    ["path", "label"],
                    *[[self.random.choice(archive.namelist() or ["1.png"]), "Normal"] for _ in "abc"],
                ]
                archive.writestr(f"{wrapper}labels.csv", self._text(rows))
        return self._damaged(path)

    def _strange_name(self, wrapper: str) -> str:
        parts = [self.random.choice([*_FOLDERS, *_FILES]) for _ in range(self.random.randrange(1, 4))]
        name = self.random.choice(["/", "/", "\\"]).join(parts)
        start = self.random.choice(
            [*[wrapper] * 12, "../", "/", "..\\", "C:\\", f"{wrapper}../../outside/", "a/" * 120]
        )
        return start + name + self.random.choice(["", "", "", "/", "\\"])

    def _pack(self, archive: zipfile.ZipFile, name: str) -> None:
        info = zipfile.ZipInfo("x")
        info.filename = name
        if self.random.random() < 0.04:
            info.external_attr = self.random.choice([stat.S_IFLNK, stat.S_IFIFO, stat.S_IFDIR, stat.S_IFREG]) << 16
        info.compress_type = archive.compression
        data: Any = b"" if name.endswith(("/", "\\")) else self._content()
        if stat.S_ISLNK(info.external_attr >> 16):
            data = str(self.outside)
        archive.writestr(info, data)

    def _damaged(self, path: Path) -> Path:
        if self.random.random() < 0.3:
            path.write_bytes(self._mutated(path.read_bytes()))
        return path

    def _mutated(self, data: bytes) -> bytes:
        changed = bytearray(data)
        for _ in range(self.random.randrange(1, 6)):
            if changed:
                changed[self.random.randrange(len(changed))] = self.random.randrange(256)
        if changed and self.random.random() < 0.3:
            del changed[self.random.randrange(len(changed)) :]
        return bytes(changed)
