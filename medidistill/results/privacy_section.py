"""The privacy section of a bundle's recipe: what was measured or accounted for, and nothing else.

Bundles of earlier versions hold fewer keys: what may be missing is None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from medidistill.jsontypes import JsonObject

__all__ = [
    "NOT_AUDITED",
    "Guarantee",
    "Measurement",
    "OverriddenRule",
    "PrivacySection",
    "SectionEvent",
]

_OPTIONAL = {"optional": True}


@dataclass(frozen=True)
class Measurement:
    """One figure of an attack beside its limit.

    Args:
        attack: its title.
        measure: what was measured.
        estimate: the figure, or why there is none.
        limit: of the policy; None where no rule is about it.
        passed: whether the figure keeps the limit; None where no rule is about it.
        low: lower limit of confidence; None where there is no interval.
        high: upper limit of confidence.
    """

    attack: str
    measure: str
    estimate: float | str
    limit: float | None
    passed: bool | None
    low: float | None = field(default=None, metadata=_OPTIONAL)
    high: float | None = field(default=None, metadata=_OPTIONAL)


@dataclass(frozen=True)
class OverriddenRule:
    """A failed rule in spite of which the set was released, with its figure and the reason."""

    rule: str
    figure: str
    reason: str


@dataclass(frozen=True)
class SectionEvent:
    """One use of patients' images; numbers of patients are left out where a guarantee would not cover them."""

    kind: str
    split: str
    mechanism: str
    origin: str
    patients: int | None = field(default=None, metadata=_OPTIONAL)
    parameters: Mapping[str, float] | None = field(default=None, metadata=_OPTIONAL)


@dataclass(frozen=True)
class Guarantee:
    """(epsilon, delta)-differential privacy for one `unit`, by `mechanism`."""

    epsilon: float
    delta: float
    unit: str
    mechanism: str


@dataclass(frozen=True)
class PrivacySection:
    """What a bundle says about privacy.

    Args:
        audited: whether attacks on this very set were measured.
        statement: the whole in sentences.
        released: whether the gate passed it, with or without overrides.
        policy: rules of the gate, as the version that wrote the bundle knew them.
        terms: of the release.
        recipient: the recipient and the terms.
        reasons: accesses without a mechanism, and failed rules.
        overrides: failed rules that were overridden.
        events: the provenance.
        guarantee: where a mechanism covers every access.
        verdict: of the gate; None where nothing was audited.
        measurements: of the attacks; None where nothing was audited.
    """

    audited: bool
    statement: str
    released: bool | None = field(default=None, metadata=_OPTIONAL)
    policy: JsonObject | None = field(default=None, metadata=_OPTIONAL)
    terms: str | None = field(default=None, metadata=_OPTIONAL)
    recipient: str | None = field(default=None, metadata=_OPTIONAL)
    reasons: tuple[str, ...] | None = field(default=None, metadata=_OPTIONAL)
    overrides: tuple[OverriddenRule, ...] | None = field(default=None, metadata=_OPTIONAL)
    events: tuple[SectionEvent, ...] | None = field(default=None, metadata=_OPTIONAL)
    guarantee: Guarantee | None = field(default=None, metadata=_OPTIONAL)
    verdict: str | None = field(default=None, metadata=_OPTIONAL)
    measurements: tuple[Measurement, ...] | None = field(default=None, metadata=_OPTIONAL)


NOT_AUDITED = PrivacySection(False, "No audit was made: no attack was measured.")
