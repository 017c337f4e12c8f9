"""The verdict at the top of the card: whether one may train on the set instead of the real X-rays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medidistill.textio import markdown_table
from medidistill.words import VERDICT_QUESTION, criteria_note

__all__ = ["verdict_text"]

_OUTCOMES = {"met": "yes", "not met": "**no**", "undetermined": "not settled"}


def verdict_text(recipe: Mapping[str, Any]) -> str:
    """Return the section in Markdown; bundles of earlier versions and merged ones say that they carry no verdict."""
    verdict = recipe.get("verdict")
    if verdict is None:
        return (
            f"## {VERDICT_QUESTION}\n\nNo verdict: this set was not compared with all real X-rays and with controls "
            "by the version that wrote the bundle.\n"
        )
    lines = [f"## {VERDICT_QUESTION}", "", f"**{verdict['colour'].capitalize()}. {verdict['sentence']}**"]
    if verdict["missing"]:
        lines += ["", f"Missing for a yes: {'; '.join(verdict['missing'])}."]
    lines += [f"\n> {warning}" for warning in verdict["warnings"]]
    lines += ["", verdict["chosen_by"]]
    if verdict["criteria"]:
        head = ["compared with", "in", "this set", "that", "difference", "must", "test patients", "met"]
        lines += ["", *markdown_table(head, [_row(one) for one in verdict["criteria"]])]
    lines += ["", criteria_note(verdict["architecture"], verdict["confidence"])]
    return "\n".join(lines) + "\n"


def _row(one: Mapping[str, Any]) -> list[str]:
    return [
        one["against_words"],
        one["measure_words"],
        *("" if one[side] is None else f"{one[side]:.3f}" for side in ("estimate", "reference")),
        one["difference_words"],
        one["asked_words"],
        str(one["patients"]),
        _OUTCOMES[one["outcome"]],
    ]
