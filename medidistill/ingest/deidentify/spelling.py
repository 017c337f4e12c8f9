"""The spellings that one name is found in: without marks, in ASCII, romanised, and in every plausible character set.

Two texts are compared by their spellings on both sides, so that neither has to be the one that was reduced: a header
may hold the full name and a comment the ASCII one, or the reverse.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

from anyascii import anyascii
from pydicom import charset

from medidistill.ingest.silence_pydicom import silence_pydicom

__all__ = ["ENCODINGS", "contractions", "decodings", "fold", "parts_of_name", "spellings", "words"]

# Every coding that the standard names (PS3.3 C.12.1.1.2), and those of PCs that write files without naming one
ENCODINGS = (
    *("utf-8", "cp1252", "latin-1", "iso8859-2", "cp1250", "iso8859-3", "iso8859-4", "cp1257", "iso8859-5", "cp1251"),
    *("koi8-r", "iso8859-6", "cp1256", "iso8859-7", "cp1253", "iso8859-8", "cp1255", "iso8859-9", "iso8859-15"),
    *("cp874", "cp850", "cp852", "cp866", "shift_jis", "euc_jp", "iso2022_jp_2", "gb18030", "big5", "euc_kr"),
    *("iso2022_kr", "utf-16-le", "utf-16-be"),
)
_ESCAPES = [f"ISO 2022 IR {n}" for n in (6, 87, 159, 13, 149, 58, 100, 101, 109, 110, 144, 127, 126, 138, 148, 166)]
_LONGEST_KEPT = 256  # letters of a text whose spellings are remembered
_DELIMITERS = {0x0D, 0x0A, 0x09, 0x0C, 0x5E, 0x3D}

_APOSTROPHES = dict.fromkeys(map(ord, "\u2018\u2019\u201b\u02bc\u02b9\u02bb\u00b4\u0060\u2032\uff07\ua78c\u05f3"), "'")
# Letters that compatibility decomposition leaves alone, each as two letters or as its base letter
_DIGRAPHS = str.maketrans(
    {
        **{"ä": "ae", "ö": "oe", "ü": "ue", "ø": "oe", "å": "aa", "æ": "ae", "œ": "oe", "ß": "ss", "þ": "th"},
        **{"ð": "dh", "đ": "dj", "ñ": "ny", "ÿ": "y", "ĳ": "ij", "ŋ": "ng"},
    }
)
_CONTRACTIONS = (
    {"ae": "ä", "oe": "ö", "ue": "ü", "ss": "ß"},
    {"ae": "æ", "oe": "ø", "aa": "å", "th": "þ", "dh": "ð"},
)


def _scheme(letters: str, latin: str) -> dict[int, str]:
    return dict(zip(map(ord, letters), (one.strip("-") for one in latin.split()), strict=True))


# What passports, libraries and newspapers write for letters where one transliteration does not do
_CYRILLIC = "ёжйхцчшщъыьэюявз"
_ROMANIZATIONS = (
    _scheme(_CYRILLIC, "e zh i kh ts ch sh shch ie y - e iu ia v z"),  # ICAO Doc 9303
    _scheme(_CYRILLIC, "yo zh y kh ts ch sh shch - y - e yu ya v z"),  # BGN/PCGN
    _scheme(_CYRILLIC, "jo sch i ch z tsch sch schtsch - y - e ju ja w s"),  # German
    _scheme(_CYRILLIC, "e z j h c c s sc - y - e ju ja v z"),  # ISO/R 9
    _scheme("гиіїєґ", "h y i i ie g"),  # Ukrainian passports
    _scheme("ηυωχξψθφβ", "i y o ch x ps th f v"),  # ELOT 743
    _scheme("ηυωχξψθφβ", "i i o h x ps th f v"),
    _scheme("ηυωχξψθφβ", "e y o ch x ps th ph b"),  # classical
)
_ACCENTS = {"COMBINING ACUTE ACCENT", "COMBINING GRAVE ACCENT", "COMBINING GREEK PERISPOMENI"}
_GREEK_DIGRAPHS = dict(
    zip("ου αυ ευ μπ ντ γκ γγ τζ".split(), "ou av ev b d g g tz".split(), strict=True)  # noqa: RUF001, SIM905
)


def fold(text: str) -> str:
    """Return a text without case, marks and width; invisible characters go, dashes and apostrophes are ASCII."""
    if text.isascii():
        return text.replace("`", "'").lower().strip()
    return _fold(text) if len(text) <= _LONGEST_KEPT else _fold.__wrapped__(text)


@functools.lru_cache(maxsize=4096)
def _fold(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text.translate(_APOSTROPHES).casefold())
    kept = []
    for letter in plain:
        kind = unicodedata.category(letter)
        if not unicodedata.combining(letter) and kind not in ("Cf", "Mn"):
            kept.append("-" if kind == "Pd" else letter)
    return unicodedata.normalize("NFC", "".join(kept)).strip()


def spellings(text: str) -> frozenset[str]:
    """Return the folded text and each way it is written in ASCII.

    Args:
        text: a word, a name or a line; of any script.

    Returns:
        `fold(text)` among them; without the empty text.
    """
    return _spellings(text) if len(text) <= _LONGEST_KEPT else _spellings.__wrapped__(text)


@functools.lru_cache(maxsize=4096)
def _spellings(text: str) -> frozenset[str]:
    found = {fold(text)}
    if not text.isascii():
        small = unicodedata.normalize("NFC", text.casefold())
        found.add(fold(anyascii(text)))
        found.add(fold(anyascii(small.translate(_DIGRAPHS))))
        greek = bare = unicodedata.normalize("NFC", _without_accents(small))
        for pair, latin in _GREEK_DIGRAPHS.items():
            greek = greek.replace(pair, latin)
        for scheme in _ROMANIZATIONS:
            found.update(fold(anyascii(one.translate(scheme))) for one in (small, bare, greek))
    return frozenset(one for one in found if one)


def _without_accents(text: str) -> str:
    """Return Greek without its accents, which stand between the letters of a digraph; other letters as they are."""
    plain = unicodedata.normalize("NFD", text)
    return "".join(c for c in plain if unicodedata.name(c, "") not in _ACCENTS)


def contractions(text: str) -> frozenset[str]:
    """Return what an ASCII spelling may stand for: *Mueller* for *Müller*, *Soerensen* for *Sørensen*."""
    small, found = text.casefold(), set()
    for pairs in _CONTRACTIONS:
        longer = small
        for pair, letter in pairs.items():
            found.add(small.replace(pair, letter))
            longer = longer.replace(pair, letter)
        found.add(longer)
    return frozenset(found - {small})


def words(text: str) -> list[str]:
    """Return the folded words of a text: runs of letters and digits."""
    return re.findall(r"[^\W_]+", fold(text))


def decodings(raw: bytes, declared: Sequence[str] = ()) -> frozenset[str]:
    """Return every text that bytes of a header may stand for.

    ASCII stands for itself. Anything else is read as the file declares, and in each of `ENCODINGS` that gives nothing
    but letters, marks and what stands between names: a character set that is wrong or missing hides no name then.

    Args:
        raw: the value as it is in the file, padding included.
        declared: (0008,0005) Specific Character Set of the dataset.
    """
    raw = raw.rstrip(b" ") if b"\0" in raw.rstrip(b"\0") else raw.rstrip(b"\0 ")
    if raw.isascii() and not {0, 27} & set(raw):
        return frozenset({raw.decode("ascii")}) if raw else frozenset()
    found: set[str] = set()
    for names in (list(declared), _ESCAPES if b"\x1b" in raw else None):
        if names:
            try:
                with silence_pydicom():  # it quotes what the file declares
                    found.add(charset.decode_bytes(raw, charset.convert_encodings(names), _DELIMITERS))
            except (LookupError, UnicodeError, ValueError):
                continue
    for name in ENCODINGS:
        try:
            text = raw.decode(name)
        except (UnicodeError, ValueError):
            continue
        if _is_plausible(text):
            found.add(text)
    return frozenset(found | set(map(_repaired, found)))


def _repaired(text: str) -> str:
    """Return UTF-8 that was taken for Latin-1 and encoded once more, as it was; other texts as they are."""
    for name in ("cp1252", "latin-1"):
        try:
            return text.encode(name).decode("utf-8")
        except UnicodeError:
            continue
    return text


def _is_plausible(text: str) -> bool:
    """Return whether every sign beyond ASCII is a letter, a mark, a digit, a dash, a quote or a space."""
    kinds = {unicodedata.category(letter) for letter in text if ord(letter) > 126 or ord(letter) < 32}
    return kinds <= {"Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Nd", "Pd", "Pi", "Pf", "Zs", "Cf"}


def parts_of_name(text: str) -> Iterator[str]:
    """Yield the parts of a person name (PS3.5 6.2.1.2): components, words, and halves of compound names."""
    for group in re.split(r"[=\\]", text):
        components = [part for part in re.split(r"[\^\s,.;/()]+", group) if part]
        yield from components
        for part in components:
            halves = [half for half in re.split(r"['\-_]+", fold(part)) if half]
            if len(halves) > 1:
                yield from (*halves, "".join(halves), " ".join(halves))
        if len(components) > 1:
            yield from _joined(components)


def _joined(parts: Iterable[str]) -> Iterator[str]:
    listed = list(parts)
    yield from (joint.join(listed) for joint in ("^", " ", ""))
    yield from (joint.join(listed[:2]) for joint in ("^", " ", "", ", ", "_"))
    yield from (joint.join(listed[1::-1]) for joint in (" ", "", "_"))
