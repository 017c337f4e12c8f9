"""Dataclasses to JSON types and back, by cattrs. Results meet JSON here and nowhere else.

Field metadata say where the stored form departs from the dataclass:

    {"json": "class"}     the key in the file, where the name is a reserved word
    {"optional": True}    the key is left out where the value is the default
    {"stored": False}     the field is not written

An `Undefined` is stored as `{"undefined": reason}`, a `Suppressed` as `"suppressed"`. Unknown keys are ignored, so that
files of a newer version that only adds keys are read; a field with a default may be missing, so that files of an older
one are. Values are checked strictly: text is no number, and true is not 1.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin

import numpy as np

from medidistill.errors import ConfigError, MedidistillError
from medidistill.jsontypes import JsonObject
from medidistill.statistics import SUPPRESSED, Suppressed, Undefined

if TYPE_CHECKING:
    from cattrs import Converter

__all__ = ["from_json", "json_object", "to_json"]

T = TypeVar("T")
_SCALARS: Mapping[type, tuple[type, ...]] = {int: (int,), float: (int, float), str: (str,), bool: (bool,)}


def to_json(value: Any) -> Any:
    """Return a result as JSON types: dataclasses as dictionaries, tuples as lists, enums as their values."""
    return _converter().unstructure(value)


def json_object(value: Any) -> JsonObject:
    """Return one dataclass as a JSON object."""
    plain: JsonObject = to_json(value)
    return plain


def from_json(kind: type[T], value: Any, what: str, *, error: type[MedidistillError] = ConfigError) -> T:
    """Return the dataclass that JSON types hold.

    Args:
        kind: the dataclass.
        value: what `to_json` returned, or a file of another version held.
        what: name of the thing for the message, for example `a comparison`.
        error: class of the error.

    Raises:
        MedidistillError: of that class; a field is missing or has another type, and the message names each place.
    """
    from cattrs import transform_error
    from cattrs.errors import BaseValidationError, StructureHandlerNotFoundError

    try:
        return _converter().structure(value, kind)
    except (BaseValidationError, StructureHandlerNotFoundError, KeyError, TypeError, ValueError) as found:
        group = isinstance(found, BaseValidationError)
        places = transform_error(found, format_exception=_reason) if group else [_reason(found, None)]
        shown = "; ".join(places[:3]) + ("; ..." if len(places) > 3 else "")
        raise error(f"not {what}: {shown}") from found


def _reason(error: BaseException, kind: type | None) -> str:
    if isinstance(error, KeyError):
        return f"the field {error.args[0]!r} is missing"
    return str(error) or type(error).__name__


@cache
def _converter() -> Converter:
    from cattrs import Converter  # a fifth of a second: a status is read without it
    from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override

    converter = Converter(unstruct_collection_overrides={Sequence: list, tuple: list})
    for kind in _SCALARS:
        converter.register_structure_hook(kind, _scalar)
    converter.register_unstructure_hook(np.generic, lambda value: value.item())
    converter.register_unstructure_hook(Suppressed, str)
    converter.register_structure_hook_func(_is_union, lambda value, kind: _structure_union(converter, value, kind))

    def overrides(kind: type) -> dict[str, Any]:
        return {
            item.name: override(
                rename=item.metadata.get("json"),
                omit_if_default=item.metadata.get("optional", False),
                omit=True if not item.metadata.get("stored", True) else None,
            )
            for item in dataclasses.fields(kind)
        }

    converter.register_unstructure_hook_factory(
        _is_record, lambda kind: make_dict_unstructure_fn(kind, converter, **overrides(kind))
    )
    converter.register_structure_hook_factory(
        _is_record, lambda kind: _of_mapping(make_dict_structure_fn(kind, converter, **overrides(kind)))
    )
    return converter


def _is_record(kind: Any) -> bool:
    return isinstance(kind, type) and dataclasses.is_dataclass(kind) and kind is not Suppressed


def _is_union(kind: Any) -> bool:
    return get_origin(kind) in (Union, types.UnionType)


def _of_mapping(structure: Callable[[Any, type], Any]) -> Callable[[Any, type], Any]:
    def checked(value: Any, kind: type) -> Any:
        if not isinstance(value, Mapping):
            raise TypeError(f"must be an object, found {value!r:.40}")
        return structure(value, kind)

    return checked


def _scalar(value: Any, kind: type) -> Any:
    if issubclass(kind, Enum):  # a `StrEnum` is text, too
        return kind(value)
    if not isinstance(value, _SCALARS[kind]) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"must be {_NAMES[kind]}, found {value!r:.40}")
    return value


_NAMES = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def _structure_union(converter: Converter, value: Any, kind: Any) -> Any:
    """Return the member of a union that fits: by marks for `Undefined` and `Suppressed`, else the first that does."""
    members = list(get_args(kind))
    if value is None and type(None) in members:
        return None
    if Suppressed in members and value == str(SUPPRESSED):
        return SUPPRESSED
    if Undefined in members and isinstance(value, Mapping) and "undefined" in value:
        return converter.structure(value, Undefined)
    marked = [one for one in members if hasattr(one, "fits") and isinstance(value, Mapping) and one.fits(value)]
    left = marked or [one for one in members if one not in (type(None), Undefined, Suppressed)]
    failure: Exception = TypeError(f"must not be {value!r:.40}")
    for one in left:
        try:
            return converter.structure(value, one)
        except Exception as error:  # noqa: BLE001 (the next member may fit)
            failure = error
    raise failure
