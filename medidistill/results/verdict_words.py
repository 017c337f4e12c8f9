"""The words of a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from medidistill.textio import interval_text
from medidistill.words import arm_words, method_words

if TYPE_CHECKING:
    from medidistill.results.verdict import Criterion, Verdict

__all__ = ["describe", "joined", "patient_words", "verdict_sentence"]


def patient_words(patients: int, images: int, known: bool) -> str:
    """Return how many were tested: patients, or images where nothing tells whose they are."""
    if not known:
        return f"{images} test image{'' if images == 1 else 's'} of unknown patients"
    return f"{patients} test patient{'' if patients == 1 else 's'}"


def describe(criterion: Criterion, verdict: Verdict) -> dict[str, str]:
    """Return `against_words`, `measure_words`, `difference_words` and `asked_words` of a criterion of a verdict."""
    measure = {
        "auroc": "AUROC",
        "balanced_accuracy": "balanced accuracy",
        "sensitivity": f"sensitivity at {100 * verdict.target_specificity:g} % specificity",
    }[criterion.measure.value]
    if criterion.finding:
        measure += f" for {criterion.finding}"
    asked = f"lose less than {criterion.margin:g}" if criterion.question.value == "non-inferior" else "be better"
    return {
        "against_words": _against(criterion, verdict),
        "measure_words": measure,
        "difference_words": _difference(criterion),
        "asked_words": asked,
    }


def _against(criterion: Criterion, verdict: Verdict) -> str:
    return arm_words(criterion.against, verdict.images_per_class)


def _difference(criterion: Criterion) -> str:
    """Return a difference with its limits, for example `-0.031 [-0.092, +0.020]`."""
    return "not defined" if criterion.difference is None else interval_text(criterion.difference, sign="+")


def joined(parts: Sequence[str]) -> str:
    """Return `a, b and c`."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def verdict_sentence(verdict: Verdict) -> str:
    """Return the one sentence of a verdict."""
    tested = patient_words(verdict.test_patients, verdict.test_images, verdict.patients_known)
    subject = f"networks trained on the distilled set ({method_words(verdict.method)})"
    if verdict.colour.value == "green":
        return (
            f"Yes: on {tested}, {subject} instead of all real X-rays lose less than the margin in AUROC, balanced "
            f"accuracy and sensitivity, and do better than networks trained on {joined(list(_controls(verdict)))}."
        )
    if verdict.colour.value == "red":
        return f"No: on {tested}, {'; '.join(_failures(verdict, subject))}."
    return _open(verdict, tested, subject)


def _reference(verdict: Verdict) -> list[Criterion]:
    """Return the criteria against all real images."""
    return [one for one in verdict.criteria if one.question.value == "non-inferior"]


def _controls(verdict: Verdict) -> dict[str, list[Criterion]]:
    """Return words of a control -> the criteria against it."""
    found: dict[str, list[Criterion]] = {}
    for one in verdict.criteria:
        if one.question.value == "superior":
            found.setdefault(_against(one, verdict), []).append(one)
    return found


def _failures(verdict: Verdict, subject: str) -> list[str]:
    told = []
    lost = [one for one in _reference(verdict) if one.outcome.value == "not met"]
    lost.sort(key=lambda one: one.margin + (one.difference.high if one.difference else 0.0))
    if lost:
        shown = _short(lost)
        shown[0] += f" ({_difference(lost[0])}, margin {lost[0].margin:g})"
        told.append(f"{subject} instead of all real X-rays lose more than the margin in {joined(shown)}")
    for against, criteria in _controls(verdict).items():
        beaten = [one for one in criteria if one.outcome.value == "not met"]
        if beaten:
            shown = _short(beaten)
            shown[0] += f" ({_difference(beaten[0])})"
            other = subject if not told else "they"
            told.append(f"{other} do worse than networks trained on {against} in {joined(shown)}")
    return told


def _open(verdict: Verdict, tested: str, subject: str) -> str:
    told = []
    lost = _unsettled(_reference(verdict))
    if lost is not None:
        told.append(f"{subject} instead of all real X-rays lose less than the margin{lost}")
    controls: dict[str, list[str]] = {}
    for against, criteria in _controls(verdict).items():
        beaten = _unsettled(criteria)
        if beaten is not None:
            controls.setdefault(beaten, []).append(against)
    for measures, names in controls.items():
        other = "they" if told else subject
        told.append(f"{other} do better than networks trained on {joined(names)}{measures}")
    if not told:
        return (
            f"Not shown: on {tested}, what could be measured of {subject} speaks for the set, but something that a "
            "yes needs is missing."
        )
    return f"Not shown: on {tested} it stays open whether {', and whether '.join(told)}."


def _unsettled(criteria: Sequence[Criterion]) -> str | None:
    """Return ` in` and the measures that are not settled; empty where none is, None where all are."""
    left = [one for one in criteria if one.outcome.value == "undetermined"]
    if not left:
        return None
    return "" if len(left) == len(criteria) else f" in {joined(_short(left))}"


def _short(criteria: Sequence[Criterion]) -> list[str]:
    """Return the measures in few words; classes are named only where the mean over the classes is not among them."""
    over_all = {one.measure for one in criteria if not one.finding}
    names = []
    for one in criteria:
        plain = {"auroc": "AUROC"}.get(one.measure.value, one.measure.value.replace("_", " "))
        names.append(plain if one.measure in over_all else f"{plain} for {one.finding}")
    return list(dict.fromkeys(names))
