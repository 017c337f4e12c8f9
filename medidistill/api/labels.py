"""Labels, class names and patients as a caller gives them, checked and brought into one form."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from medidistill.errors import ArgumentError, ArgumentTypeError

__all__ = ["class_names_of", "is_missing", "labels_of", "patients_of"]

_MOST_CLASSES = 100
_MISSING_TEXT = ("nan", "NaN", "<NA>", "NaT")  # what NumPy and pandas write for a missing value


def class_names_of(class_names: Any) -> tuple[str, ...]:
    """Return the names of the classes, checked. Raises `ArgumentTypeError` or `ArgumentError`."""
    if isinstance(class_names, str) or not isinstance(class_names, Sequence):
        raise ArgumentTypeError("class_names", repr(class_names)[:80], "a list of names, one a class")
    names = tuple(class_names)
    if not all(isinstance(one, str) and one.strip() for one in names):
        raise ArgumentTypeError("class_names", repr(names)[:80], "names that are text and not empty")
    twice = [name for name, number in Counter(names).items() if number > 1]
    if twice:
        raise ArgumentError("class_names", repr(twice[0]), "given once")
    return names


def labels_of(labels: Sequence[Any] | npt.NDArray[Any], names: tuple[str, ...]) -> tuple[Tensor, tuple[str, ...]]:
    """Return (N,) int64 class indices and the K names. Raises `ArgumentTypeError` or `ArgumentError`."""
    if isinstance(labels, np.ndarray) and labels.dtype.kind not in "biufUSO":
        raise ArgumentTypeError("labels", labels.dtype, "class numbers or names")
    if isinstance(labels, np.ndarray) and labels.dtype.kind in "biu":
        values = labels
    else:
        entries = [_plain(one) for one in labels]
        _check_entries(entries, names)
        values = _as_array(entries)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim == 2:
        raise ArgumentError(
            "labels",
            f"array of shape {values.shape}",
            "one class an image: (N,)",
            "multi-label is refused; of one-hot rows give labels.argmax(1)",
        )
    if values.ndim != 1 or not values.size:
        raise ArgumentError("labels", f"array of shape {values.shape}", "one class an image: (N,), N >= 1")
    if values.dtype.kind == "f":
        if not np.isfinite(values).all() or (values != np.round(values)).any():
            raise ArgumentTypeError("labels", "floats that are no whole numbers", "class numbers or names")
        values = values.astype(np.int64)
    if values.dtype.kind == "b":
        values = values.astype(np.int64)
    if values.dtype.kind == "U":
        index, names = _by_name(values, names)
    elif values.dtype.kind in "iu":
        index, names = _by_number(values.astype(np.int64), names)
    else:
        raise ArgumentTypeError("labels", values.dtype, "class numbers or names")
    return torch.from_numpy(index), _checked_classes(index, names)


def is_missing(value: Any) -> bool:
    """Return whether a value stands for nothing: None, NaN, NaT or the NA of pandas."""
    found = pd.isna(value)
    return isinstance(found, (bool, np.bool_)) and bool(found)


def _plain(label: Any) -> Any:
    """Return a label as Python has it: a number, text, or lists of them."""
    if isinstance(label, Tensor):
        return label.detach().cpu().tolist()
    return label.tolist() if isinstance(label, (np.ndarray, np.generic)) else label


def _as_array(entries: Sequence[Any]) -> npt.NDArray[Any]:
    try:
        return np.asarray(entries)
    except ValueError as error:  # rows of different lengths
        raise ArgumentError(
            "labels", "lists of different lengths", "one class an image", "multi-label is refused"
        ) from error


def _check_entries(entries: Sequence[Any], names: tuple[str, ...]) -> None:
    """Refuse, before NumPy makes text of everything, an entry that is missing or of another kind than the first."""
    first_is_text: bool | None = None
    for number, entry in enumerate(entries):
        for value in _leaves(entry):
            is_text = isinstance(value, str)
            if is_missing(value) or (is_text and not value.strip()):
                raise _missing_label(number, value, "leave the image out or give its label")
            if is_text and value in _MISSING_TEXT and value not in names:
                raise _missing_label(number, value, "leave the image out, or name such a class in class_names")
            if not isinstance(value, (str, bool, int, float)):
                allowed = "a class name (text) or a class number"
                raise ArgumentTypeError(f"labels[{number}]", type(value).__name__, allowed)
            if first_is_text is None:
                first_is_text = is_text
            if is_text != first_is_text:
                kind = "a class name (text)" if first_is_text else "a class number"
                raise ArgumentTypeError(
                    f"labels[{number}]",
                    repr(value)[:80],
                    f"{kind}, as the labels before it",
                    "use names alone or numbers alone",
                )


def _leaves(entry: Any) -> Iterator[Any]:
    """Yield what a label holds: itself, or the entries of a row, one by one."""
    if isinstance(entry, (list, tuple)):
        for one in entry:
            yield from _leaves(one)
    else:
        yield entry


def _missing_label(number: int, value: Any, remedy: str) -> ArgumentTypeError:
    return ArgumentTypeError(f"labels[{number}]", repr(value), "a class name or a class number", remedy)


def _by_name(values: npt.NDArray[Any], names: tuple[str, ...]) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    texts = values.tolist()
    names = names or tuple(sorted(set(texts)))
    unknown = sorted(set(texts) - set(names))
    if unknown:
        raise ArgumentError("labels", repr(unknown[0]), f"one of class_names ({', '.join(names[:10])})")
    place = {name: number for number, name in enumerate(names)}
    return np.asarray([place[one] for one in texts], dtype=np.int64), names


def _by_number(index: npt.NDArray[np.int64], names: tuple[str, ...]) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    least, most = int(index.min()), int(index.max())
    count = len(names) or most + 1
    if least < 0 or most >= count:
        wrong = least if least < 0 else most
        raise ArgumentError("labels", wrong, f"in 0..{count - 1}" if names else ">= 0", "number the classes from 0")
    if count > _MOST_CLASSES:
        raise ArgumentError("labels", f"{count} classes", f"2 to {_MOST_CLASSES} classes")
    return index, names or tuple(map(str, range(count)))


def _checked_classes(index: npt.NDArray[np.int64], names: tuple[str, ...]) -> tuple[str, ...]:
    if not 2 <= len(names) <= _MOST_CLASSES:
        raise ArgumentError(
            "labels", f"{len(names)} class{'es' if len(names) > 1 else ''}", f"2 to {_MOST_CLASSES} classes"
        )
    empty = [names[k] for k in np.flatnonzero(np.bincount(index, minlength=len(names)) == 0)]
    if empty:
        raise ArgumentError(
            "labels",
            f"no image of class {empty[0]!r}",
            "of every class",
            "add images or leave the class out of class_names",
        )
    return names


def patients_of(groups: Any, count: int) -> tuple[str, ...]:
    """Return the hashed identifier of the patient of each image. Raises `ArgumentTypeError` or `ArgumentError`."""
    from medidistill.ingest.sources.patients import hash_patient

    if isinstance(groups, Tensor):
        groups = groups.tolist()
    by_name = isinstance(groups, (Mapping, Set, pd.DataFrame))  # to go over them gives keys, or no order
    if by_name or isinstance(groups, (str, bytes)) or not hasattr(groups, "__len__"):
        raise ArgumentTypeError("groups", type(groups).__name__, "a sequence with the patient of each image")
    if len(groups) != count:
        raise ArgumentError("groups", f"{len(groups)} entries", f"as many as there are images ({count})")
    given = [_identifier(one, number) for number, one in enumerate(groups)]
    return tuple(map(hash_patient, given))


def _identifier(group: Any, number: int) -> str:
    from medidistill.ingest.sources.patients import is_placeholder

    value = group.item() if isinstance(group, (np.generic, Tensor)) else group
    endless = isinstance(value, float) and math.isinf(value)
    if is_missing(value) or endless or is_placeholder(str(value)):
        raise ArgumentError(
            f"groups[{number}]",
            repr(value),
            "an identifier",
            "leave the image out, or pass groups=None where patients are unknown",
        )
    if not isinstance(value, (str, int, float)) or isinstance(value, bool):
        raise ArgumentTypeError(f"groups[{number}]", type(value).__name__, "text or a number")
    return str(value)
