"""One name in many spellings: reduced, romanised, contracted, and in character sets that the file does not declare."""

from __future__ import annotations

import pytest

from medidistill.ingest.deidentify.spelling import (
    ENCODINGS,
    contractions,
    decodings,
    fold,
    parts_of_name,
    spellings,
    words,
)


@pytest.mark.parametrize(
    ("text", "ascii_spellings"),
    [
        ("Fantomłowska", {"fantomlowska"}),
        ("Spøgelse", {"spogelse", "spoegelse"}),
        ("Geistgroß", {"geistgross"}),
        ("GEISTGROẞ", {"geistgross"}),
        ("Phäntöm", {"phantom", "phaentoem"}),
        ("Åndeæble", {"andeaeble", "aandeaeble"}),
        ("Hayalet\u0131", {"hayaleti"}),
        ("HAYALETİ", {"hayaleti"}),
        ("\ufb01nder", {"finder"}),
        ("Đuhovi\u0107", {"duhovic", "djuhovic"}),
        ("Þoka", {"thoka"}),
        ("O\u2019Spectre", {"o'spectre"}),
        ("Spectre\u2010Ombre", {"spectre-ombre"}),
        ("Spec\u00adtre\u200b", {"spectre"}),
        ("\uff30\uff28\uff21", {"pha"}),  # full width
        ("Призрак", {"prizrak"}),
        ("Щёкин", {"shchekin", "shchyokin", "schtschjokin"}),
        ("Юхимов", {"iukhimov", "yukhymov", "juchimow"}),
        ("Φάντασμα", {"fantasma", "phantasma"}),
        ("Παπαδοπούλου", {"papadopoulou"}),
        ("まぼろし", {"maboroshi"}),
        ("ﾌｧﾝﾄﾑ", {"fuantomu"}),
        ("환영사", {"hwanyeongsa"}),
        ("幻影", {"huanying"}),
        ("רוח", {"rvkh"}),
        ("شبح", {"shbh"}),
        ("ผี", {"phi"}),
    ],
)
def test_a_name_has_its_ascii_spellings(text: str, ascii_spellings: set[str]) -> None:
    assert ascii_spellings <= spellings(text)
    assert fold(text) in spellings(text)


def test_both_sides_are_spelled() -> None:
    """A header may hold the reduced name and a comment the full one, or the reverse."""
    for full, reduced in (("Müller", "Mueller"), ("Müller", "Muller"), ("Søren", "Soeren"), ("Łucja", "Lucja")):
        assert spellings(full) & spellings(reduced)
    assert not spellings("Müller") & spellings("Miller")


def test_an_ascii_spelling_stands_for_letters_with_marks() -> None:
    assert {"müller", "måller"} & contractions("Mueller") == {"müller"}
    assert "sørensen" in contractions("Soerensen")
    assert "strauß" in contractions("Strauss")
    assert contractions("Klein") == frozenset()


@pytest.mark.parametrize(
    ("raw", "declared", "text"),
    [
        ("Phäntöm".encode("latin-1"), [], "Phäntöm"),
        ("Phäntöm".encode("latin-1"), ["ISO_IR 192"], "Phäntöm"),
        ("Phäntöm".encode(), ["ISO_IR 100"], "Phäntöm"),
        ("Phäntöm".encode(), ["Not Supplied"], "Phäntöm"),
        ("Phäntöm".encode().decode("latin-1").encode(), ["ISO_IR 192"], "Phäntöm"),  # encoded twice
        ("Phantom".encode("utf-16-le"), ["ISO_IR 192"], "Phantom"),
        ("Призрак".encode("cp1251"), ["ISO_IR 100"], "Призрак"),
        ("Призрак".encode("koi8-r"), [], "Призрак"),
        ("Призрак".encode("iso8859-5"), ["ISO_IR 144"], "Призрак"),
        ("Φάντασμα".encode("iso8859-7"), [], "Φάντασμα"),
        ("幻影".encode("gb18030"), ["ISO_IR 192"], "幻影"),
        ("幻影".encode("shift_jis"), [], "幻影"),
        ("幻影".encode("euc_jp"), [], "幻影"),
        ("幻影".encode("big5"), [], "幻影"),
        ("幻影".encode("iso2022_jp"), [], "幻影"),
        (b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B", ["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎"),
        (b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B", [], "Yamada^Tarou=山田^太郎"),
        ("환영".encode("euc_kr"), [], "환영"),
        ("ผี".encode("cp874"), [], "ผี"),
        ("שלום".encode("iso8859-8"), [], "שלום"),
    ],
)
def test_bytes_are_read_in_every_plausible_coding(raw: bytes, declared: list[str], text: str) -> None:
    assert text in decodings(raw, declared)


def test_ascii_stands_for_itself_and_signs_are_no_name() -> None:
    assert decodings(b"Phantom^Ada ") == {"Phantom^Ada"}
    assert decodings(b"\0\0") == frozenset()
    assert all("\x01" not in text for text in decodings(b"\x01\x02\xe4"))
    assert len(set(ENCODINGS)) == len(ENCODINGS)


def test_parts_of_a_name() -> None:
    parts = set(parts_of_name("O'Spectre-Ombre^Eva Maria^^Prof^MdB=幻影^太郎"))
    assert {"O'Spectre-Ombre", "Eva", "Maria", "Prof", "MdB", "幻影", "太郎"} <= parts
    assert {"spectre", "ombre", "o spectre ombre", "ospectreombre"} <= parts
    assert {"幻影^太郎", "幻影太郎", "Eva O'Spectre-Ombre"} <= parts
    assert words("O'Spectre, 2") == ["o", "spectre", "2"]
