"""Names in the writings of the world, as headers hold and garble them, and whether bytes hold one."""

from __future__ import annotations

import contextlib
import itertools
import re

__all__ = ["CHARSETS", "MISDECLARED", "REDUCED", "holds"]

_ENCODINGS = (
    *("utf-8", "latin-1", "utf-16-le", "utf-16-be", "iso8859-2", "iso8859-5", "iso8859-6", "iso8859-7", "iso8859-8"),
    *("iso8859-9", "cp874", "cp1251", "shift_jis", "euc_jp", "iso2022_jp", "gb18030", "big5", "euc_kr"),
)
CHARSETS: dict[str, tuple[str | list[str], str]] = {
    "Latin-1 diacritics": ("ISO_IR 100", "Phäntömsen^Ünïté"),
    "Latin-2": ("ISO_IR 101", "Fantomłowski^Łucjaż"),
    "Turkish": ("ISO_IR 148", "Hayaletoğlu^Iş\u0131lt\u0131"),
    "Cyrillic": ("ISO_IR 144", "Фантомов^Призрак"),
    "Greek": ("ISO_IR 126", "Φάντασμα^Είδωλο"),
    "Arabic": ("ISO_IR 127", "شبح^خيال"),
    "Hebrew": ("ISO_IR 138", "רוחרפאים^צללית"),
    "Thai": ("ISO_IR 166", "ผีหลอก^เงามืด"),
    "Japanese ideographs": (["", "ISO 2022 IR 87"], "Phantomata^Tarou=幻影田^太郎虚=まぼろし^たろうか"),
    "Japanese half-width": ("ISO_IR 13", "ﾌｧﾝﾄﾑﾀ^ﾕｳﾚｲ"),
    "Korean": (["", "ISO 2022 IR 149"], "Hwanyeong^Gasang=환영사^가상인"),
    "Chinese, GB18030": ("GB18030", "Huanyingzi^Xuxiang=幻影子^虚像人"),
    "Chinese, UTF-8": ("ISO_IR 192", "Huanyingzi^Xuxiang=幻影子^虚像人"),
}
# bytes in one coding, and what the file says of them (None: nothing)
MISDECLARED: dict[str, tuple[str, str | None, str]] = {
    "Latin-1, none declared": ("latin-1", None, "Phäntömsen^Ünïté"),
    "Latin-1, declared as UTF-8": ("latin-1", "ISO_IR 192", "Phäntömsen^Ünïté"),
    "UTF-8, declared as Latin-1": ("utf-8", "ISO_IR 100", "Phäntömsen^Ünïté"),
    "UTF-8, a term that does not exist": ("utf-8", "Not Supplied", "Phäntömsen^Ünïté"),
    "Cyrillic of Windows, declared as Latin-1": ("cp1251", "ISO_IR 100", "Фантомов^Призрак"),
    "Shift-JIS, none declared": ("shift_jis", None, "Phantomata^Tarou=幻影田^太郎虚"),
    "GB18030, declared as UTF-8": ("gb18030", "ISO_IR 192", "Huanyingzi^Xuxiang=幻影子^虚像人"),
    "ISO 2022 escapes, none declared": ("iso2022_jp", None, "Phantomata^Tarou=幻影田^太郎虚"),
}
# a name as the header writes it, and what is left of it in ASCII elsewhere
REDUCED: dict[str, tuple[str, str]] = {
    "l with stroke": ("Fantomłowska^Jadwiłga", "Fantomlowska"),
    "o with slash": ("Spøgelsesen^Bjørnhild", "Spogelsesen"),
    "o with slash as oe": ("Spøgelsesen^Bjørnhild", "Spoegelsesen"),
    "sharp s": ("Geistesgroß^Fantomeß", "Geistesgross"),
    "umlaut as two letters": ("Phäntömsen^Ünïté", "Phaentoemsen"),
    "dotless i": ("Hayaletl\u0131oğlu^Iş\u0131lt\u0131", "Hayaletlioglu"),
    "ligature": ("Phantom\ufb01nder^Ada", "Phantomfinder"),
    "typographic apostrophe": ("O\u2019Phantomery^Ada", "O'Phantomery"),
    "typographic hyphen": ("Phantom\u2010Spectre^Ada", "Phantom-Spectre"),
    "Cyrillic romanised": ("Фантомщёв^Призрак", "Fantomshchyov"),
    "Greek romanised": ("Φαντασμάτου^Είδωλο", "Fantasmatou"),
    "kana romanised": ("=まぼろしだ^たろうか", "Maboroshida"),
    "hangul romanised": ("=환영사^가상인", "HwanYeongSa"),
}


def holds(data: bytes, value: str) -> bool:
    """Return whether bytes hold a value, or a part of a name, in any of the usual encodings and either case.

    A part of four letters or digits counts as a whole word: random bytes and hexadecimal digits hold it by chance.
    """
    parts = [part for group in value.split("=") for part in group.split("^")] if {"^", "="} & set(value) else [value]
    lower = data.lower()
    for raw, upper in itertools.chain.from_iterable(map(_written, parts)):
        if len(raw) < 4 or not (raw in lower or upper in data):
            continue
        if len(raw) > 4 or re.search(rb"(?<!\w)" + re.escape(raw) + rb"(?!\w)", lower):
            return True
    return False


def _written(part: str) -> set[tuple[bytes, bytes]]:
    """Return the bytes of a word in every encoding that has its letters: with lower-case ASCII, and in upper case."""
    found = set()
    for encoding in _ENCODINGS:
        with contextlib.suppress(UnicodeEncodeError):
            found.add((part.encode(encoding).lower(), part.upper().encode(encoding, "ignore")))
    return found
