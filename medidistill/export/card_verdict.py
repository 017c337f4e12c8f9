"""The verdict at the top of the card: whether one may train on the set instead of the real X-rays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medidistill.textio import markdown_table

__all__ = ["QUESTION", "verdict_text"]

QUESTION = "May I train on this set instead of the real X-rays?"
_OUTCOMES = {"met": "yes", "not met": "**no**", "undetermined": "not settled"}


def verdict_text(recipe: Mapping[str, Any]) -> str:
    """Return the section in Markdown; bundles of earlier versions and merged ones say that they carry no verdict."""
    verdict = recipe.get("verdict")
    if verdict is None:
        return (
            f"## {QUESTION}\n\nNo verdict: this set was not compared with all real X-rays and with controls by the "
            "version that wrote the bundle.\n"
        )
    lines = [f"## {QUESTION}", "", f"**{verdict['colour'].capitalize()}. {verdict['sentence']}**"]
    if verdict["missing"]:
        lines += ["", f"Missing for a yes: {'; '.join(verdict['missing'])}."]
    lines += [f"\n> {warning}" for warning in verdict["warnings"]]
    lines += ["", verdict["chosen_by"]]
    if verdict["criteria"]:
        head = ["compared with", "in", "this set", "that", "difference", "must", "test patients", "met"]
        lines += ["", *markdown_table(head, [_row(one) for one in verdict["criteria"]])]
    lines += [
        "",
        f"Means over fresh {verdict['architecture']} networks; in brackets {100 * verdict['confidence']:g} % intervals "
        "over patients and networks, paired. Red: one criterion is refuted. Green: all are met and nothing is missing.",
    ]
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
