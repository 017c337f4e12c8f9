"""Duplicates: the same file, the same pixels, or nearly the same image in two splits."""

from __future__ import annotations

from collections.abc import Sequence

from medidistill.config import QualityConfig
from medidistill.ingest.examine import correlation
from medidistill.ingest.loading import LoadedImage
from medidistill.ingest.quality import Finding, near_pairs
from medidistill.ingest.sources.record import Record
from medidistill.ingest.splits import SPLITS

__all__ = ["find_copies", "find_near_duplicates"]

Copies = list[tuple[int, int, Finding]]  # image, the one it is a copy of, what to do about it


def find_copies(records: Sequence[Record], films: Sequence[LoadedImage | None], config: QualityConfig) -> Copies:
    """Return the images whose bytes or pixels an earlier image has, as (image, earlier image, finding).

    The first by key stays. The same bytes never count twice; `config.same_pixels` decides on the same pixels in
    another file.
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
    records: Sequence[Record], films: Sequence[LoadedImage | None], splits: Sequence[str], config: QualityConfig
) -> Copies:
    """Return the near duplicates of images of another split, as (image, the other, finding).

    Pairs of similar hashes are examined further: their fine structure must correlate as well.

    Of a pair the one in the earlier of train, validation and test is set aside: the test split is unchanged, and no
    training image is a copy of it.
    """
    if config.near_duplicates == "accept":
        return []
    used = [i for i, film in enumerate(films) if film is not None]
    rank = [SPLITS.index(splits[i]) for i in used]
    kept = [film for film in films if film is not None]
    hashes = [film.difference_hash for film in kept]
    found: dict[int, tuple[int, int, Finding]] = {}
    for a, b in near_pairs(hashes, rank, config.max_bits):
        goes, stays = (a, b) if rank[a] < rank[b] else (b, a)
        if correlation(kept[a].fine, kept[b].fine) < config.min_correlation:
            continue
        i, j = used[goes], used[stays]
        other = ", under another label" if records[i].label != records[j].label else ""
        reason = f"near duplicate of an image in the {splits[j]} split{other}"
        found.setdefault(i, (i, j, Finding(config.near_duplicates, reason)))
    return list(found.values())
