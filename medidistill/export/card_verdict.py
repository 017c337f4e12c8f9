"""The verdict at the top of the card: whether one may train on the set instead of the real X-rays."""

from __future__ import annotations

from medidistill.results.verdict import DescribedCriterion, Verdict
from medidistill.textio import markdown_table
from medidistill.words import VERDICT_QUESTION, criteria_note

__all__ = ["verdict_text"]

_OUTCOMES = {"met": "yes", "not met": "**no**", "undetermined": "not settled"}


def verdict_text(verdict: Verdict | None) -> str:
    """Return the section in Markdown; bundles of earlier versions and merged ones say that they carry no verdict."""
    if verdict is None:
        return (
            f"## {VERDICT_QUESTION}\n\nNo verdict: this set was not compared with all real X-rays and with controls "
            "by the version that wrote the bundle.\n"
        )
    lines = [f"## {VERDICT_QUESTION}", "", f"**{verdict.colour.value.capitalize()}. {verdict.sentence}**"]
    if verdict.missing:
        lines += ["", f"Missing for a yes: {'; '.join(verdict.missing)}."]
    lines += [f"\n> {warning}" for warning in verdict.warnings]
    lines += ["", verdict.chosen_by]
    if verdict.criteria:
        head = ["compared with", "in", "this set", "that", "difference", "must", "test patients", "met"]
        lines += ["", *markdown_table(head, [_row(one) for one in verdict.described])]
    lines += ["", criteria_note(verdict.architecture, verdict.confidence)]
    return "\n".join(lines) + "\n"


def _row(one: DescribedCriterion) -> list[str]:
    criterion = one.criterion
    return [
        one.against_words,
        one.measure_words,
        *("" if value is None else f"{value:.3f}" for value in (criterion.estimate, criterion.reference)),
        one.difference_words,
        one.asked_words,
        str(criterion.patients),
        _OUTCOMES[criterion.outcome.value],
    ]
