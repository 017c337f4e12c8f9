"""The verdict of a run: computed for every method with the comparison, kept for the method that is delivered.

`evaluate/verdicts.json` holds one verdict a distilled set, so that another method can be delivered without scoring the
test split again. `verdict.json` of the run holds that of the delivered one; report, card, status and app print it.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medidistill.config import METHODS, RunConfig
from medidistill.distilled_set import LabelledImages
from medidistill.evaluate import ArmRun, Comparison, ResampledScores
from medidistill.evaluate.clinical import ClinicalComparison
from medidistill.evaluate.confounding import confounding_warnings, unshared_classes
from medidistill.evaluate.verdict_figures import VerdictData, VerdictSettings, criteria_by_method, patients_per_class
from medidistill.files import read_json, write_json
from medidistill.patient_units import PatientUnits
from medidistill.pipeline.comparison.arms import Delivery, candidate_methods, cell_file, delivery
from medidistill.pipeline.prepared import PreparedData
from medidistill.pipeline.work import RunContext
from medidistill.results.verdict import FORMAT, REFERENCE, Verdict
from medidistill.words import arm_words, method_words

__all__ = [
    "VERDICTS",
    "delivery_rule",
    "forget_comparison",
    "images_by_site",
    "keep_delivered_verdict",
    "write_verdicts",
]

VERDICTS = "verdicts.json"  # in the folder of a comparison
_LOW_BAR = (
    "The bar is low: networks trained on all real X-rays do no better here than networks trained on {few}. Too few "
    "test patients, or too short a training on all X-rays, can do that."
)


def write_verdicts(
    config: RunConfig,
    data: PreparedData,
    scored: LabelledImages,
    runs: Sequence[ArmRun],
    scores: ResampledScores,
    comparison: Comparison,
    clinical: ClinicalComparison,
    units: PatientUnits,
    folder: Path,
) -> None:
    """Write the verdict of every method that was compared, on the images `scored`.

    Args:
        config: the run's configuration.
        data: prepared images; thresholds are chosen on validation.
        scored: the images that the probabilities of `runs` belong to.
        runs: cells of the comparison; those of the first architecture count.
        scores: the same on every draw of patients and networks.
        comparison: what `compare` made of them.
        clinical: what `clinical_comparison` made of them.
        units: what stands for a patient in `scored`.
        folder: where `verdicts.json` goes.
    """
    architecture, rules = config.evaluate.architectures[0], config.evaluate.clinical
    first = [run for run in runs if run.architecture == architecture]
    methods = [run.arm for run in first if run.arm in METHODS]
    test = VerdictData(
        labels=scored.labels.numpy().astype(np.int64),
        val_labels=data.val.labels.numpy().astype(np.int64),
        patient_ids=scored.patient_ids,
        class_names=scored.class_names,
        images_per_class=config.distill.ipc,
    )
    settings = VerdictSettings(
        margin_auroc=rules.margin,
        margin_balanced_accuracy=rules.margin_balanced_accuracy,
        margin_sensitivity=rules.margin_sensitivity,
        target_specificity=rules.target_specificity,
        confidence=config.evaluate.confidence,
        bootstrap=config.evaluate.bootstrap,
        seed=config.seed,
    )
    accuracies = {
        row.arm: row.balanced_accuracy.estimate for row in comparison.rows if row.architecture == architecture
    }
    unshared = unshared_classes(images_by_site(data), data.train.class_names)
    verdicts = {}
    for method, criteria in (criteria_by_method(first, methods, test, settings, scores) if methods else {}).items():
        beside = {
            arm_words(arm, config.distill.ipc): accuracies[arm] for arm in (REFERENCE, method) if arm in accuracies
        }
        verdict = Verdict(
            method=method,
            images_per_class=config.distill.ipc,
            chosen_by="",
            criteria=criteria,
            architecture=architecture,
            target_specificity=rules.target_specificity,
            confidence=config.evaluate.confidence,
            test_images=comparison.test_images,
            test_patients=comparison.test_patients,
            patients_known=units.noted and not units.nothing,
            patients_per_class=patients_per_class(test),
            min_patients=rules.verdict_patients,
            reservations=tuple(f"class {name} shares no site with another class" for name in unshared),
            warnings=(
                *confounding_warnings(clinical.source_probe, beside, unshared),
                *_low_bar(comparison, architecture, config.distill.ipc),
            ),
        )
        verdicts[method] = verdict.to_dict()
    write_json(folder / VERDICTS, {"format": FORMAT, "verdicts": verdicts})


def _low_bar(comparison: Comparison, architecture: str, ipc: int) -> list[str]:
    areas = {row.arm: row.macro_auroc.estimate for row in comparison.rows if row.architecture == architecture}
    better = [arm for arm in ("random", "packed", "kmeans") if areas.get(arm, 0.0) > areas.get(REFERENCE, 1.0)]
    return [_LOW_BAR.format(few=arm_words(better[0], ipc))] if better else []


def images_by_site(data: PreparedData) -> dict[str, dict[str, int]]:
    """Return site -> class -> number of images in all splits; images of unknown site are left out."""
    counts: dict[str, Counter[str]] = {}
    for part in (data.train, data.val, data.test):
        for site, label in zip(part.sites, part.labels.tolist(), strict=False):
            if site:
                counts.setdefault(site, Counter())[part.class_names[label]] += 1
    return {site: dict(found) for site, found in sorted(counts.items())}


def keep_delivered_verdict(run: RunContext) -> Verdict | None:
    """Write the verdict of the method that is delivered as `verdict.json` of the run, and return it.

    None, and no file, where that method was not compared.
    """
    file, chosen = run.folder.evaluate / VERDICTS, delivery(run.config, run.folder)
    found = read_json(file)["verdicts"].get(chosen.method) if file.is_file() else None
    if found is None:
        run.folder.verdict.unlink(missing_ok=True)
        return None
    verdict = Verdict.from_dict(found)
    # the first look at the test patients counts: what was named after it may have been picked for them
    first = run.record.test_openings[0] if run.record.test_openings else {}
    before = first.get("deliver") or str(run.record.stages.get("evaluate", {}).get("deliver", run.config.deliver))
    afterwards = run.config.deliver not in ("auto", before)
    verdict = dataclasses.replace(
        verdict,
        chosen_by=delivery_rule(run.config, chosen, afterwards=afterwards),
        reservations=(
            *verdict.reservations,
            *(["the method was named after the test patients had been scored"] if afterwards else []),
        ),
        warnings=(*verdict.warnings, *_openings(len(run.record.test_openings))),
    )
    write_json(run.folder.verdict, verdict.to_dict())
    return verdict


def forget_comparison(run: RunContext, method: str, inputs: str, *, anew: bool = False) -> None:
    """Remove the comparison, and its verdict, of another set of `method` than the one that `inputs` will give.

    They would be shown, and exported, beside images that they say nothing about. Openings of the test split stay
    counted, and the cells of other sets stay.

    Args:
        run: the run.
        method: whose set it is.
        inputs: digest of what the set is made of.
        anew: it is made again of the same, with fresh noise: another set.
    """
    before = run.record.stages.get(f"distill/{method}", {}).get("inputs", inputs)
    if (before == inputs and not anew) or method not in run.config.evaluate.arms or not run.ranks.writes:
        return
    if run.record.stages.pop("evaluate", None) is not None:
        run.record.save(run.folder.record_file)
    written, cells = run.folder.evaluate, cell_file(run.folder, method, "*")
    tables = [run.folder.verdict, written / VERDICTS, written / "comparison.json"]
    for file in (*tables, *cells.parent.glob(cells.name)):
        file.unlink(missing_ok=True)


def _openings(times: int) -> list[str]:
    if times < 2:
        return []
    return [
        f"The test patients were scored {times} times. Each look allows a choice that fits them by chance: confirm the "
        "verdict on patients that no run has seen."
    ]


def delivery_rule(config: RunConfig, chosen: Delivery, *, afterwards: bool = False) -> str:
    """Return a sentence: which method's set is handed over, and by which rule it was chosen."""
    if config.deliver != "auto":
        when = " after the test patients had been scored" if afterwards else ""
        why = f"named in the configuration{when} (deliver: {config.deliver})"
    elif chosen.scores:
        ranked = sorted(chosen.scores.items(), key=lambda one: -one[1])
        scores = ", ".join(f"{method_words(method)} {score:.3f}" for method, score in ranked)
        why = f"the best on the validation patients (balanced accuracy: {scores})"
    elif len(candidate_methods(config)) == 1:
        why = "the only method that was compared"
    elif config.experts.dp.enabled:
        why = "fixed beforehand, because a choice on patients would have no privacy mechanism"
    else:
        why = "taken before the methods were compared"
    return f"Delivered is the set of {method_words(chosen.method)}: {why}."
