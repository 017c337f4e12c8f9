"""Films that are there twice: the same file, the same pixels, or nearly the same in two splits."""

from __future__ import annotations

from collections.abc import Sequence

from medidistill.config import QualityConfig
from medidistill.ingest.examine import correlation
from medidistill.ingest.loading import Film
from medidistill.ingest.quality import Finding, near_pairs
from medidistill.ingest.sources.record import Record
from medidistill.ingest.splits import SPLITS

__all__ = ["find_copies", "find_near_duplicates"]

Copies = list[tuple[int, int, Finding]]  # film, the one it is a copy of, what to do about it


def find_copies(records: Sequence[Record], films: Sequence[Film | None], config: QualityConfig) -> Copies:
    """Return the films whose bytes or pixels an earlier film has, by (film, earlier film, finding).

    The first by key stays. The same bytes never count twice; what happens to the same pixels in another file
    `config.same_pixels` says.
    """
    found: Copies = []
    first: dict[str, int] = {}
    for i, film in enumerate(films):
        if film is None:
            continue
        for name, action, digest in (
            ("bytes", "quarantine", film.sha256),
            ("pixels", config.same_pixels, "pixels " + film.pixels),
        ):
            j = first.setdefault(digest, i)
            if j != i and action != "accept":
                other = ", under another label" if records[i].label != records[j].label else ""
                found.append((i, j, Finding(action, f"same {name} as another file{other}")))
                break
    return found


def find_near_duplicates(
    records: Sequence[Record], films: Sequence[Film | None], splits: Sequence[str], config: QualityConfig
) -> Copies:
    """Return the films that look like a film of another split, by (film, the other, finding).

    Pairs of like outlines are looked at once more: their fine structure must correlate as well.

    Of a pair the one in the earlier of train, validation and test goes: the test split stays as it is, and what is
    learned from holds no copy of it.
    """
    if config.near_duplicates == "accept":
        return []
    used = [i for i, film in enumerate(films) if film is not None]
    rank = [SPLITS.index(splits[i]) for i in used]
    kept = [film for film in films if film is not None]
    outlines = [film.outline for film in kept]
    found: dict[int, tuple[int, int, Finding]] = {}
    for a, b in near_pairs(outlines, rank, config.max_bits):
        goes, stays = (a, b) if rank[a] < rank[b] else (b, a)
        if correlation(kept[a].fine, kept[b].fine) < config.min_correlation:
            continue
        i, j = used[goes], used[stays]
        other = ", under another label" if records[i].label != records[j].label else ""
        reason = f"near duplicate of a film in the {splits[j]} split{other}"
        found.setdefault(i, (i, j, Finding(config.near_duplicates, reason)))
    return list(found.values())
