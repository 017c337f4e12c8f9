"""Two pages for a data-protection officer: what was measured, what it means, what was not tested. Not legal advice.

One list of blocks is rendered twice, as Markdown and as a self-contained HTML page.
"""

from __future__ import annotations

import html
from typing import Any

from medidistill.privacy.attacks import ATTACKS
from medidistill.privacy.describe import finding
from medidistill.results.audit import AuditDocument
from medidistill.textio import markdown_table
from medidistill.words import start_words

__all__ = ["dpo_report_html", "dpo_report_markdown"]

Block = tuple[str, Any]

_CRITERIA = (
    (
        "WP216: singling out",
        "membership (this set, procedure), planted canaries, one-run bound",
    ),
    ("WP216: linkability", "copy and linkage, patient re-identification"),
    ("WP216: inference", "attribute inference; only the hospital (site) is tested"),
    (
        "ISO/IEC 27559",
        "threat models and figures; context, recipient and controls are the site's to describe",
    ),
    (
        "HIPAA 164.514(b)(1), expert determination",
        "figures that an expert may use; whether the risk is very small for this recipient is the expert's to say",
    ),
)
_UNTESTED = (
    "attacks that are published later, or that use more computing than this audit did",
    "attackers who hold the networks or logs of the run, which must never be released",
    "attributes other than the hospital: age, sex, other diseases",
    "several releases of the same patients combined, except those in the ledger",
    "whether the images are useful, or right, for any medical purpose",
)


def _blocks(document: AuditDocument) -> list[Block]:
    profile, members, others = document.profile, document.members, document.others
    start = (
        f"The images started from {start_words(document.init)}."
        if start_words(document.init) is not None
        else f"**The images started from {document.init}: they may show the patients they began as.**"
    )
    blocks: list[Block] = [
        ("h1", "Privacy measurement of a distilled set"),
        (
            "p",
            f"Set {document.set}: {document.images} synthetic X-rays made from {members.images} images of "
            f"{members.patients} patients. {start} Measured {document.finished[:10]}, profile {profile.name}, "
            f"{profile.shadows} repetitions of the procedure, {others.patients} non-members to compare with.",
        ),
        (
            "p",
            "A distilled set is made from patients' X-rays and may carry traces of them. Attacks found the following. "
            "**A good result is no proof of anonymity**, and this page is not legal advice.",
        ),
        *(("p", f"**{sentence}**") for sentence in document.patient_units),
        ("h2", "What was found"),
        (
            "table",
            (
                ("question", "what the attacker has", "finding", "what it means"),
                [
                    (ATTACKS[name].title, ATTACKS[name].threat, finding(result), ATTACKS[name].meaning)
                    for name, result in document.audits.items()
                ],
            ),
        ),
        (
            "p",
            "Square brackets hold 95 % intervals that count each patient once. An attack that only guesses finds 1 % "
            "of the members at 1 % false positives and has an AUC of 0.5. *Not resolvable* means too few patients "
            "to decide; it does not mean that there is no risk.",
        ),
        ("h2", "What was not tested"),
        ("list", _UNTESTED),
        ("h2", "How each measurement can mislead"),
        ("list", tuple(f"{about.title}: {about.misses}" for about in ATTACKS.values())),
        ("h2", "Which requirement each measurement addresses"),
        ("table", (("text", "measurements"), [*_CRITERIA])),
        ("h2", "What remains for people to decide"),
        (
            "p",
            "Whether the set is personal data under GDPR recital 26 depends on the means reasonably likely to be used "
            "by the recipient. The record of a release names the recipient, the policy and each override; "
            "the privacy cost of repeated releases of the same patients adds up. "
            "NIST SP 800-226 lists what to ask of a differential-privacy claim.",
        ),
    ]
    return blocks


def dpo_report_markdown(document: AuditDocument) -> str:
    """Return the two pages as Markdown."""
    parts = []
    for kind, content in _blocks(document):
        if kind in ("h1", "h2"):
            parts.append(f"{'#' * int(kind[1])} {content}")
        elif kind == "p":
            parts.append(content)
        elif kind == "list":
            parts.append("\n".join(f"- {item}" for item in content))
        else:
            parts.append("\n".join(markdown_table(*content)))
    return "\n\n".join(parts) + "\n"


_STYLE = """body{font:10.5pt/1.4 Georgia,serif;max-width:19cm;margin:1cm auto;color:#111}
h1{font-size:17pt}h2{font-size:12.5pt;margin:1em 0 .3em}table{border-collapse:collapse;font-size:8.5pt;width:100%}
td,th{border:1px solid #999;padding:3px 5px;text-align:left;vertical-align:top}th{background:#eee}
ul{margin:.3em 0;padding-left:1.2em}@page{size:A4;margin:1.3cm}"""


def dpo_report_html(document: AuditDocument) -> str:
    """Return the two pages as one HTML file that loads nothing."""
    parts = []
    for kind, content in _blocks(document):
        if kind == "list":
            parts.append("<ul>" + "".join(f"<li>{_inline(item)}</li>" for item in content) + "</ul>")
        elif kind == "table":
            head, rows = content
            cells = "".join(f"<th>{_inline(cell)}</th>" for cell in head)
            body = "".join("<tr>" + "".join(f"<td>{_inline(cell)}</td>" for cell in row) + "</tr>" for row in rows)
            parts.append(f"<table><tr>{cells}</tr>{body}</table>")
        else:
            parts.append(f"<{kind}>{_inline(content)}</{kind}>")
    title = "Privacy measurement of a distilled set"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )


def _inline(text: str) -> str:
    """Escape, and turn the two marks used above into HTML."""
    parts = html.escape(text).split("**")
    marked = "".join(f"<strong>{part}</strong>" if i % 2 else part for i, part in enumerate(parts))
    parts = marked.split("*")
    return "".join(f"<em>{part}</em>" if i % 2 else part for i, part in enumerate(parts))
