"""The privacy section of the card: what was measured and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from medidistill.results.privacy_section import Guarantee, Measurement, PrivacySection
from medidistill.textio import markdown_table

__all__ = ["privacy_text"]

_UNMEASURED = """- **No attack has been measured on this set yet**: neither membership inference nor memorisation.
  Absence of a measurement is no evidence of safety, and the set must not be called anonymous.
"""
_MEASURED = """- A pass says that these attacks, at this strength, found no more than the limit.
  It does not prove anonymity.
"""
_UNGUARANTEED = """- The images are synthetic. **They carry no formal guarantee of privacy**: no mechanism such as
  differential privacy covers every touch of the patients' images, and distillation alone gives none.
"""
_LAST = """- Whoever passes it on decides under the rules that hold for the patients' data it was made from.
- Research use only, **not for diagnosis**.
"""


def privacy_text(privacy: PrivacySection) -> str:
    """Return the section; a formal guarantee appears only where there is one."""
    lines = [f"## Privacy\n\n{privacy.statement}\n"]
    if privacy.audited:
        lines.append(f"Verdict of the privacy gate: **{privacy.verdict}**.\n")
        lines += [f"- {reason}" for reason in privacy.reasons or ()]
        lines.append(_table(privacy.measurements or ()))
    lines.append("## What this does not promise\n")
    kept = privacy.guarantee
    lines.append(
        (_guarantee(kept) if kept else _UNGUARANTEED) + (_MEASURED if privacy.audited else _UNMEASURED) + _LAST
    )
    return "\n".join(lines)


def _guarantee(kept: Guarantee) -> str:
    return (
        f"- ({kept.epsilon:g}, {kept.delta:g})-differential privacy per {kept.unit}, by "
        f"{kept.mechanism}. It bounds what the set says about one such unit; "
        "repeated releases from the same patients add up.\n"
    )


def _table(measurements: Sequence[Measurement]) -> str:
    if not measurements:
        return "No attack was measured.\n"
    rows = [[one.attack, one.measure, _estimate(one), _number(one.limit), _WITHIN[one.passed]] for one in measurements]
    return "\n".join(markdown_table(["attack", "measure", "estimate", "limit", "within"], rows)) + "\n"


_WITHIN = {True: "yes", False: "**no**", None: "no rule"}


def _estimate(one: Measurement) -> str:
    if one.low is None or one.high is None:
        return _number(one.estimate)
    return f"{_number(one.estimate)} [{_number(one.low)}, {_number(one.high)}]"


def _number(value: float | str | None) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else f"{value:.3g}"
