"""Reporting checklists as Markdown, filled with what a run knows; the rest stays a question for the author.

A filled item is a draft: the run knows what the software did, not why, nor what happened in the hospital. Nothing is
guessed, and no file name, path or command of the run is printed.
"""

from __future__ import annotations

from medidistill.evaluate.clinical.checklist_items import GUIDELINES
from medidistill.patient_units import PatientUnits
from medidistill.record import RunRecord
from medidistill.results.clinical import ClinicalComparison, ScoredImages
from medidistill.results.clinical_figures import OperatingPoint
from medidistill.statistics import Undefined
from medidistill.textio import Limits, interval_text, markdown_table

__all__ = ["checklist"]

_MARK = " \\*: we could not compare this number with the published list; look it up."


def checklist(record: RunRecord, result: ClinicalComparison) -> str:
    """Return the checklists of CLAIM, STARD and TRIPOD+AI as one Markdown page.

    Args:
        record: of the run.
        result: the clinical comparison.
    """
    facts = _facts(record, result)
    lines = [
        "# Reporting checklists",
        "",
        "A draft. *Run* is what the record of the run says; **Author** is what only you can say. Short forms are in "
        "our words: check each against the guideline itself before you submit it. Research use, not for diagnosis.",
    ]
    for name, (items, compared) in GUIDELINES.items():
        known = sum(bool(facts.get(item.fact)) for item in items)
        lines += ["", f"## {name}", "", f"{known} of {len(items)} items have something from the run.{_MARK}", ""]
        rows = []
        for place, item in enumerate(items):
            seen = place < compared or not item.number[0].isdigit()
            number = item.number if seen else f"{item.number}\\*"
            fact = facts.get(item.fact, "")
            answer = f"*Run:* {fact} **Author:** is that all?" if fact else f"**Author:** {item.asks}?"
            rows.append([" ".join(text.split()) for text in (number, item.asks, answer)])
        lines += markdown_table(["item", "what to report", "answer"], rows)
    return "\n".join(lines) + "\n"


def _facts(record: RunRecord, result: ClinicalComparison) -> dict[str, str]:
    """Return what is known, by the names that the items use; unknown facts are absent or empty."""
    settings, test = result.settings, result.test
    level = f"{100 * settings.confidence:g} %"
    opened = len(record.test_openings)
    return {
        **_from_config(record),
        "technology": "neural networks for chest X-rays, trained on real images and on distilled (synthetic) images.",
        "margin": f"non-inferiority of each arm to {settings.reference} at a margin of {settings.margin:g} in AUROC.",
        "software": ", ".join(f"{name} {version}" for name, version in record.versions.items()) + ".",
        "record": "configuration, versions, digests and openings of the test split are in the record of the run.",
        "ensembling": "; ".join(
            f"{arm.arm} ({arm.architecture}): mean probability of {arm.networks} networks" for arm in result.arms
        )
        + ".",
        "metrics": "AUROC, average precision, Brier score, calibration curve, intercept and slope, net benefit, "
        "sensitivity and specificity at a threshold from validation, likelihood ratios.",
        "uncertainty": f"{level} intervals over patients: DeLong's variance with patients as clusters, "
        f"{settings.bootstrap} bootstrap resamples of patients; McNemar's exact test between arms.",
        "threshold": "sensitivity at specificity "
        f"{settings.target_specificity:g}, threshold chosen on validation and applied to the test split unchanged.",
        "blinding": "the test labels took no part in training or in the choice of models and thresholds; the test "
        f"split was opened {opened} time{'' if opened == 1 else 's'} according to the record.",
        "internal": f"test split of {test.images} images of {test.patients} patients of the same collection.",
        "external": _external(record),
        "explanations": _explanations(record),
        "flow": _flow(record, test),
        "quarantine": _quarantine(record),
        "precision": "no sample size was planned by the software; the widths of the intervals say what it allowed.",
        "performance": _performance(result),
        "cross": _cross(result),
        "errors": "confusion matrices and discordant pairs are in the comparison; single cases are not listed.",
        "indeterminate": "the models give a probability for every image; none is set aside as indeterminate.",
        "predictors": "the pixels of one image; no clinical variables, no reader's judgement.",
        "balance": "test images by class: "
        + ", ".join(f"{name} {count}" for name, count in test.images_per_class.items())
        + "; no resampling or recalibration.",
        "subgroups": f"AUROC by {', '.join(result.subgroups)}, small groups suppressed." if result.subgroups else "",
        "probe": _probe(result),
        "limits": " ".join([record.config.get("notice", ""), *result.notes]).strip(),
        "use": "research use only, not for diagnosis.",
    }


def _from_config(record: RunRecord) -> dict[str, str]:
    config = record.config
    ingest, network, experts = (config.get(name, {}) for name in ("ingest", "network", "experts"))
    distill, evaluate = (config.get(name, {}) for name in ("distill", "evaluate"))
    facts = {}
    if ingest:
        facts["preprocessing"] = (
            f"resized to {ingest.get('image_size')} x {ingest.get('image_size')} pixels, normalisation "
            f"{ingest.get('normalisation')}."
        )
        facts["splits"] = f"training, validation and test; {_disjoint(record)}"
    if network:
        depth = network.get("depth")
        facts["model"] = (
            f"{network.get('name')}, width {network.get('width')}, "
            f"{'depth by image size' if not depth else f'depth {depth}'}, {network.get('norm')} normalisation."
        )
        facts["initial"] = f"random, from named streams of seed {config.get('seed')}; no pretraining."
    if distill and experts:
        facts["training"] = (
            f"{experts.get('count')} experts of {experts.get('epochs')} epochs; {distill.get('ipc')} images per class "
            f"distilled in {distill.get('outer_steps')} outer steps of {distill.get('inner_steps')} inner steps, "
            f"started from {distill.get('init')}."
        )
    if evaluate:
        facts["selection"] = "outer step and training settings by balanced accuracy on validation."
    return facts


def _disjoint(record: RunRecord) -> str:
    units = PatientUnits.from_facts(record.stages.get("ingest", {}))
    said = units.sentences()
    if not units.noted:
        return "split by patient, as far as the input names patients."
    return said[0][0].lower() + " ".join(said)[1:] if said else "no patient in two of them (checked on reading)."


def _external(record: RunRecord) -> str:
    if not record.config.get("evaluate", {}).get("external"):
        return ""
    return "a second test set from elsewhere, never trained or tuned on, was scored; its tables are in `external/`."


def _explanations(record: RunRecord) -> str:
    cases = record.config.get("evaluate", {}).get("saliency", {}).get("cases", 0)
    if not cases:
        return ""
    return f"Grad-CAM of up to {cases} test images of each outcome, drawn at random; not validated."


def _flow(record: RunRecord, test: ScoredImages) -> str:
    ingest = record.stages.get("ingest", {})
    parts = []
    for split, counts in ingest.get("images", {}).items():
        people = ingest.get("patients", {}).get(split, "an unknown number of")
        parts.append(f"{split}: {sum(counts.values())} images of {people} patients")
    return "; ".join(parts or [f"test: {test.images} images of {test.patients} patients"]) + "."


def _quarantine(record: RunRecord) -> str:
    number = record.stages.get("ingest", {}).get("quarantined")
    return "" if number is None else f"{number} unreadable or unsuitable files were set aside on reading."


def _performance(result: ClinicalComparison) -> str:
    said = [f"{arm.arm} ({arm.architecture}) macro AUROC {_span(arm.macro_auroc)}" for arm in result.arms]
    for gap in result.differences:
        verdict = "no verdict" if isinstance(gap.macro, Undefined) else gap.macro.verdict
        said.append(f"{gap.arm} - {gap.minus} ({gap.architecture}) {_span(gap.macro)}, {verdict}")
    return "; ".join(said) + "."


def _cross(result: ClinicalComparison) -> str:
    said = []
    for arm in result.arms:
        for one in arm.classes:
            if isinstance(one.operating_point, OperatingPoint):
                counts = one.operating_point.counts
                numbers = ", ".join(f"{name.upper()} {number}" for name, number in counts.items())
                said.append(f"{arm.arm} ({arm.architecture}), {one.name}: {numbers}")
    return "; ".join(said) + "." if said else ""


def _probe(result: ClinicalComparison) -> str:
    probe = result.source_probe
    if probe is None or isinstance(probe.site, Undefined):
        return ""
    return (
        "a linear probe tells the site of tiny images with balanced accuracy "
        f"{_span(probe.site.balanced_accuracy)} (chance {probe.site.chance:.2f})."
    )


def _span(value: Limits | Undefined) -> str:
    if isinstance(value, Undefined):
        return "undefined" if value.estimate is None else f"{value.estimate:.3f} without limits"
    return interval_text(value)
