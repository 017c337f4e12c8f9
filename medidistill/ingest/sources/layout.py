"""Split and class from the folders that a picture lies in.

Known layouts, below any number of folders that hold nothing but the next one:

| folders | split | class |
|---|---|---|
| `CLASS/...` | none | first folder |
| `train/CLASS/...` beside `test/`, `val/` | first folder | second folder |
| `CLASS/train/...` | second folder | first folder |
| `CLASS/images` beside `CLASS/masks` | none | first folder; masks are left out |

What fits none of these, or more than one, is refused with what was seen: a wrong guess would teach the folder's name.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

from medidistill.errors import IngestError, one_line

__all__ = ["IMAGE_FOLDERS", "NO_CLASS", "Layout", "Place", "folder_word", "read_layout", "split_of"]

_SPLITS = {
    **dict.fromkeys(("train", "training", "trn", "trainset"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev", "development", "valset"), "val"),
    **dict.fromkeys(("test", "testing", "tst", "testset"), "test"),
}
IMAGE_FOLDERS = {"image", "images", "img", "imgs"}
_PLAIN_FOLDERS = IMAGE_FOLDERS | {"picture", "pictures", "png", "jpg", "jpeg", "dicom", "dcm", "data"}
_MASKS = {"mask", "masks", "segmentation", "segmentations", "groundtruth", "annotation", "annotations"}
_MOST_NAMED = 6
NO_CLASS = "lies in no class folder"


class Place(StrEnum):
    """What a picture is taken for."""

    LABELLED = "labelled"
    MASK = "mask"
    NO_CLASS = "no class"


@dataclass(frozen=True)
class Layout:
    """How folders are read.

    Args:
        splits: at which depth the split stands, None where the folders name none.
        classes: at which depth the class stands, for folders without repeated names of splits.
        notes: what was seen.
        known: class names of the configuration: never taken for a split or for masks.
    """

    splits: int | None
    classes: int
    notes: tuple[str, ...] = ()
    known: frozenset[str] = frozenset()

    def place(self, folders: Sequence[str]) -> tuple[Place, str, str]:
        """Return what a picture in `folders` is taken for, its split and its label; either may be empty."""
        rest = _without_repeats(folders, self.known)
        split = "" if self.splits is None or len(rest) <= self.splits else split_of(rest[self.splits])
        if len(rest) <= self.classes:
            return Place.NO_CLASS, split, ""
        deeper = rest[self.classes + 1 :]
        place = Place.MASK if any(_is_masks(one) for one in deeper) else Place.LABELLED
        return place, split, rest[self.classes]


def folder_word(name: str) -> str:
    """Return the name of a folder without case, spaces, hyphens and underscores."""
    return re.sub(r"[\s_-]+", "", unicodedata.normalize("NFKC", name)).casefold()


def split_of(name: str) -> str:
    """Return the split that a folder is named after (`train`, `val`, `test`), empty for any other name."""
    return _SPLITS.get(folder_word(name), "")


def _is_masks(name: str) -> bool:
    word = folder_word(name)
    return word in _MASKS or word.endswith(("mask", "masks"))


def _is_images(name: str) -> bool:
    return folder_word(name) in IMAGE_FOLDERS


def _without_repeats(folders: Sequence[str], known: Collection[str]) -> tuple[str, ...]:
    """Return the folders without the second of two splits in a row: `train/train/...`, as archives unpack."""
    kept = list(folders[:1])
    for name in folders[1:]:
        again = split_of(name) and name not in known and split_of(name) == split_of(kept[-1])
        if not again:
            kept.append(name)
    return tuple(kept)


def read_layout(folders: Sequence[Sequence[str]], known: Collection[str] = ()) -> Layout:
    """Determine splits and classes from the folders of all images.

    Args:
        folders: for each picture the folders from the source down to it.
        known: class names of the configuration.

    Raises:
        IngestError: an ambiguous layout, with what was seen; no folder name that is neither split nor class is in it.
    """
    all_known = frozenset(known)
    paths = [_without_repeats(one, all_known) for one in folders if one]
    _refuse_masks_as_classes(paths, all_known)
    splits, classes, notes = _split_depth(paths, all_known), 0, []
    if splits == 0:
        below = [one[1:] for one in paths]
        if not any(below):
            raise IngestError(
                "pictures lie right below folders that name a split and no class "
                f"({_named({one[0] for one in paths})}): put each class into a folder of its own"
            )
        classes = 1
        while all(len(one) > classes for one in paths) and _lone_plain_folder({one[classes] for one in paths}):
            classes += 1
        seen = Counter(split_of(one[0]) for one in paths)
        notes.append(f"Split as the folders are named: {_counted(seen)}.")
        if len(seen) < 2:
            raise IngestError(
                f"the folders {_named({one[0] for one in paths})} are named after the split {next(iter(seen))} and "
                "after no other: rename them"
            )
    elif splits == 1:
        seen = Counter(split_of(one[1]) for one in paths)
        notes.append(f"Split as the folders below each class are named: {_counted(seen)}.")
    layout = Layout(splits, classes, known=all_known)
    notes += _check_classes(paths, layout)
    return Layout(splits, classes, tuple(notes), all_known)


def _split_depth(paths: Sequence[Sequence[str]], known: Collection[str]) -> int | None:
    for depth in (0, 1):
        there = [one[depth] for one in paths if len(one) > depth]
        names = {name for name in there if split_of(name) and name not in known}
        if not names:
            continue
        if len(names) == len(set(there)) and (depth == 0 or len(there) == len(paths)):
            return depth
        others = len(set(there) - names)
        what = f"{others} folders that name none" if others else "pictures in no such folder"
        raise IngestError(
            f"folders named after a split ({_named(names)}) lie beside {what}"
            f"{' in the class folders' if depth else ''}: sort them, or list the folders that are classes in "
            "ingest.classes"
        )
    return None


def _refuse_masks_as_classes(paths: Sequence[Sequence[str]], known: Collection[str]) -> None:
    first = {one[0] for one in paths} - set(known)
    masks, images = ({name for name in first if of(name)} for of in (_is_masks, _is_images))
    if masks and images:
        raise IngestError(f"the folders {_named(masks | images)} look like pictures and their masks, not like classes")


def _lone_plain_folder(names: set[str]) -> bool:
    return len(names) == 1 and folder_word(next(iter(names))) in _PLAIN_FOLDERS


def _check_classes(paths: Sequence[Sequence[str]], layout: Layout) -> list[str]:
    """Refuse a class that is found at two depths; return a note where folders below the classes look like classes."""
    at, skip = layout.classes, {1} if layout.splits == 1 else set()
    labels = {folder_word(one[at]): one[at] for one in paths if len(one) > at}
    below: dict[str, set[str]] = defaultdict(set)
    for one in paths:
        if len(one) <= at:
            continue
        deeper = [name for depth, name in enumerate(one) if depth > at and depth not in skip]
        for name in deeper:
            word = folder_word(name)
            if word in labels and word != folder_word(one[at]):
                raise IngestError(
                    f"the folder {labels[word]!r} is found both as a class and below the class {one_line(one[at])!r}: "
                    "one of them is no class; sort them, or give the folder that holds the classes"
                )
        below[one[at]].add(deeper[0] if deeper else "")
    shared = set.intersection(*below.values()) if below else set()
    alike = len(below) > 1 and len(shared) > 1 and all(names == shared for names in below.values())
    words = {folder_word(name) for name in shared}
    if alike and all(name and any(c.isalpha() for c in name) for name in shared) and not words & _PLAIN_FOLDERS:
        if any(map(_is_masks, shared)):
            return []
        return [
            f"Below each of the {len(below)} classes lie the same {len(shared)} folders. If those are the classes and "
            "the folders above are sources, set labels by a table with the columns path, label and site."
        ]
    return []


def _named(names: Collection[str]) -> str:
    listed = sorted(one_line(name) for name in names)
    more = f" and {len(listed) - _MOST_NAMED} more" if len(listed) > _MOST_NAMED else ""
    return ", ".join(listed[:_MOST_NAMED]) + more


def _counted(seen: Counter[str]) -> str:
    return ", ".join(f"{split} {seen[split]}" for split in ("train", "val", "test") if seen[split])
