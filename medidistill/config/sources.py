"""Sources of the images, their licences, and the licence that results for the distilled set.

The conservative reading is taken: a distilled set counts as an adaptation of every source. Whether it legally is one is
open; `combine` returns what the licences of all sources allow together, and is no legal advice.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from medidistill.config.fields import Help, Validated
from medidistill.errors import ConfigError, did_you_mean

__all__ = ["Licence", "SourceConfig", "combine"]

_ATTRIBUTION, _SHARE_ALIKE, _NON_COMMERCIAL, _NO_DERIVATIVES = "BY", "SA", "NC", "ND"
# SPDX identifier -> its conditions on an adaptation
_TERMS: dict[str, frozenset[str]] = {
    **{name: frozenset() for name in ("CC0-1.0", "PDDL-1.0", "0BSD")},
    **{
        f"CC-{terms}-{version}": frozenset(terms.split("-"))
        for terms in ("BY", "BY-SA", "BY-NC", "BY-NC-SA", "BY-ND", "BY-NC-ND")
        for version in ("3.0", "4.0")
    },
    **{name: frozenset({_ATTRIBUTION}) for name in ("ODC-By-1.0", "CDLA-Permissive-2.0", "MIT", "Apache-2.0")},
    **{name: frozenset({_ATTRIBUTION, _SHARE_ALIKE}) for name in ("ODbL-1.0", "CDLA-Sharing-1.0")},
}
_OWN = re.compile(r"LicenseRef-[A-Za-z0-9.-]+")


@dataclass(frozen=True)
class SourceConfig(Validated):
    """One source of images, as the card of the bundle will name it."""

    name: Annotated[str, Help("what the source is called")] = ""
    licence: Annotated[str, Help("SPDX identifier; LicenseRef-NAME for terms of its own; empty: not stated")] = ""
    url: Annotated[str, Help("its address")] = ""
    citation: Annotated[str, Help("what to cite")] = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.name.strip():
            raise ConfigError("SourceConfig.name='': must name the source, for example the collection or the hospital")
        if self.licence and self.licence not in _TERMS and not _OWN.fullmatch(self.licence):
            guess = did_you_mean(self.licence, _TERMS) or f"; known: {', '.join(_TERMS)}"
            raise ConfigError(
                f"SourceConfig.licence={self.licence!r}: must be an SPDX identifier that is known here, or "
                f"LicenseRef-NAME for terms of its own{guess}"
            )


@dataclass(frozen=True)
class Licence:
    """The combined licence of all sources.

    Args:
        identifier: SPDX identifier of the distilled set, `other` where a source has terms of its own, `unknown`
            where a source states none.
        commercial: whether commercial use stays open; None where it is not known.
        attribution: whether the sources must be named.
        reason: one sentence on how the identifier was derived.
    """

    identifier: str
    commercial: bool | None
    attribution: bool
    reason: str


def combine(sources: Sequence[SourceConfig]) -> Licence:
    """Return the licence that the licences of all sources allow together.

    A non-commercial source makes a non-commercial set, a share-alike source hands its own licence on.

    Raises:
        ConfigError: a source allows no adaptations, or two ask for different licences; the rows are named.
    """
    if not sources:
        return Licence("unknown", None, True, "No source was named.")
    rows = [(f"sources[{number}] ({one.name}: {one.licence})", one) for number, one in enumerate(sources)]
    terms = {row: _TERMS.get(one.licence, frozenset()) for row, one in rows}
    closed = [row for row, asked in terms.items() if _NO_DERIVATIVES in asked]
    if closed:
        raise ConfigError(f"{'; '.join(closed)}: allows no adaptations, and a distilled set is one; leave it out")
    sharing = {row: one.licence for row, one in rows if _SHARE_ALIKE in terms[row]}
    limited = [row for row, asked in terms.items() if _NON_COMMERCIAL in asked]
    if len(set(sharing.values())) > 1:
        raise ConfigError(f"{'; '.join(sharing)}: each asks for its own licence; make one set for each")
    shared = next(iter(sharing.values()), "")
    if shared and limited and _NON_COMMERCIAL not in _TERMS[shared]:
        raise ConfigError(
            f"{'; '.join([*sharing, *limited])}: the first asks for {shared}, which allows commercial use, the other "
            "forbids it; make one set for each"
        )
    silent = [one.name for _, one in rows if not one.licence]
    own = [one for _, one in rows if _OWN.fullmatch(one.licence)]
    commercial = False if limited else (None if silent or own else True)
    if silent:
        return Licence("unknown", commercial, True, f"No licence is stated for: {', '.join(silent)}.")
    if own:
        listed = ", ".join(f"{one.name} ({one.licence})" for one in own)
        return Licence("other", commercial, True, f"Terms of their own hold for: {listed}.")
    attribution = any(_ATTRIBUTION in asked for asked in terms.values())
    return Licence(shared or _plain(limited, attribution), commercial, attribution, _reason(shared, limited))


def _plain(limited: Sequence[str], attribution: bool) -> str:
    if limited:
        return "CC-BY-NC-4.0"
    return "CC-BY-4.0" if attribution else "CC0-1.0"


def _reason(shared: str, limited: Sequence[str]) -> str:
    if shared:
        return f"A source under {shared} asks for the same licence."
    return "A source forbids commercial use." if limited else "No source asks for more."


def as_sources(rows: Any, origin: str) -> tuple[SourceConfig, ...]:
    """Return the sources that a bundle's recipe lists. Raises `ConfigError` naming `origin`."""
    try:
        return tuple(SourceConfig(**row) for row in rows)
    except TypeError as error:
        raise ConfigError(f"{origin}: not a list of sources ({error})") from error
