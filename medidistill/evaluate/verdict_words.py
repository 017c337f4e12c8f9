"""The words of a verdict. Take plain values, so that every reader of a stored verdict can make the same ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medidistill.textio import interval_text
from medidistill.words import arm_words, method_words

__all__ = ["criterion_words", "joined", "patient_words", "signed_span", "verdict_sentence"]


def patient_words(patients: int, images: int, known: bool) -> str:
    """Return how many were tested: patients, or images where nothing tells whose they are."""
    if not known:
        return f"{images} test image{'' if images == 1 else 's'} of unknown patients"
    return f"{patients} test patient{'' if patients == 1 else 's'}"


def criterion_words(criterion: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, str]:
    """Return `against_words`, `measure_words`, `difference_words` and `asked_words` of a criterion."""
    specificity = f"{100 * facts['target_specificity']:g} % specificity"
    measure = {
        "auroc": "AUROC",
        "balanced_accuracy": "balanced accuracy",
        "sensitivity": f"sensitivity at {specificity}",
    }[criterion["measure"]]
    if criterion["finding"]:
        measure += f" for {criterion['finding']}"
    asked = f"lose less than {criterion['margin']:g}" if criterion["question"] == "non-inferior" else "be better"
    return {
        "against_words": arm_words(criterion["against"], facts["images_per_class"]),
        "measure_words": measure,
        "difference_words": "not defined" if criterion["undefined"] else signed_span(criterion["difference"]),
        "asked_words": asked,
    }


def signed_span(interval: Mapping[str, float]) -> str:
    """Return a difference with its limits, for example `-0.031 [-0.092, +0.020]`."""
    return interval_text(interval, sign="+")


def joined(parts: Sequence[str]) -> str:
    """Return `a, b and c`."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def verdict_sentence(colour: str, criteria: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]) -> str:
    """Return the one sentence of a verdict.

    Args:
        colour: `green`, `amber` or `red`.
        criteria: as `Verdict.to_dict` holds them.
        facts: `method`, `images_per_class`, `test_patients`, `test_images`, `patients_known`, `target_specificity`.
    """
    tested = patient_words(facts["test_patients"], facts["test_images"], facts["patients_known"])
    subject = f"networks trained on the distilled set ({method_words(facts['method'])})"
    if colour == "green":
        controls = list(dict.fromkeys(one["against_words"] for one in criteria if one["question"] == "superior"))
        return (
            f"Yes: on {tested}, {subject} instead of all real X-rays lose less than the margin in AUROC, balanced "
            f"accuracy and sensitivity, and do better than networks trained on {joined(controls)}."
        )
    if colour == "red":
        return f"No: on {tested}, {'; '.join(_failures(criteria, subject))}."
    return _open(criteria, tested, subject)


def _failures(criteria: Sequence[Mapping[str, Any]], subject: str) -> list[str]:
    failed = [one for one in criteria if one["outcome"] == "not met"]
    told = []
    lost = sorted(
        (one for one in failed if one["question"] == "non-inferior"),
        key=lambda one: one["difference"]["high"] + one["margin"],
    )
    if lost:
        shown = _short(lost)
        shown[0] += f" ({lost[0]['difference_words']}, margin {lost[0]['margin']:g})"
        told.append(f"{subject} instead of all real X-rays lose more than the margin in {joined(shown)}")
    for against in dict.fromkeys(one["against_words"] for one in failed if one["question"] == "superior"):
        beaten = [one for one in failed if one["against_words"] == against and one["question"] == "superior"]
        shown = _short(beaten)
        shown[0] += f" ({beaten[0]['difference_words']})"
        other = subject if not told else "they"
        told.append(f"{other} do worse than networks trained on {against} in {joined(shown)}")
    return told


def _open(criteria: Sequence[Mapping[str, Any]], tested: str, subject: str) -> str:
    told = []
    lost = _unsettled([one for one in criteria if one["question"] == "non-inferior"])
    if lost is not None:
        told.append(f"{subject} instead of all real X-rays lose less than the margin{lost}")
    controls: dict[str, list[str]] = {}
    for against in dict.fromkeys(one["against_words"] for one in criteria if one["question"] == "superior"):
        beaten = _unsettled([one for one in criteria if one["against_words"] == against])
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


def _unsettled(criteria: Sequence[Mapping[str, Any]]) -> str | None:
    """Return ` in` and the measures that are not settled; empty where none is, None where all are."""
    left = [one for one in criteria if one["outcome"] == "undetermined"]
    if not left:
        return None
    return "" if len(left) == len(criteria) else f" in {joined(_short(left))}"


def _short(criteria: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the measures in few words; classes are named only where the mean over the classes is not among them."""
    over_all = {one["measure"] for one in criteria if not one["finding"]}
    names = []
    for one in criteria:
        plain = {"auroc": "AUROC"}.get(one["measure"], one["measure"].replace("_", " "))
        names.append(plain if one["measure"] in over_all else f"{plain} for {one['finding']}")
    return list(dict.fromkeys(names))
