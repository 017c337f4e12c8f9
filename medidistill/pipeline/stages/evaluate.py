"""Evaluate: fresh networks on every arm, the test split opened once, the comparison."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from medidistill.config import RunConfig, digest
from medidistill.config.fields import digested
from medidistill.distilled_set import LabelledImages
from medidistill.evaluate import ArmRun, Comparison, compare_scores, resample_scores
from medidistill.evaluate.protocol import SELECTION_NETWORKS
from medidistill.files import read_json, write_json, write_text
from medidistill.pipeline.comparison.arms import compared, delivery
from medidistill.pipeline.comparison.cells import ComparisonInputs, comparison_inputs, fingerprint, run_cells
from medidistill.pipeline.comparison.clinical import write_clinical
from medidistill.pipeline.comparison.external import external_set, external_units
from medidistill.pipeline.comparison.private_rival import NAME as DP_FULL
from medidistill.pipeline.comparison.scored_labels import save_scored_labels
from medidistill.pipeline.comparison.verdict import keep_delivered_verdict, write_verdicts
from medidistill.pipeline.planning.survey import Survey
from medidistill.pipeline.prepared import PreparedData
from medidistill.pipeline.runfolder.run_folder import RunFolder
from medidistill.pipeline.stage import Estimate, Stage
from medidistill.pipeline.work import RunContext

__all__ = ["Evaluate", "evaluate"]


class Evaluate(Stage):
    """Trains fresh networks on every arm and compares them."""

    kind = "evaluate"
    title = "Train fresh networks and compare"

    def inputs(self, run: RunContext) -> str:
        """Return the digest of the data, of every arm, and of the rules."""
        data = run.data()
        external = external_set(run, data)
        return _inputs(run, data, comparison_inputs(run, data, external))

    def outputs(self, run: RunContext) -> tuple[Path, ...]:
        """Return the comparison."""
        return (run.folder.evaluate / "comparison.json",)

    def run(self, run: RunContext) -> Comparison:
        """Compare; finished cells are kept."""
        return evaluate(run)

    def estimate(self, survey: Survey) -> Estimate:
        """Return the time of all trainings, and the size of the predictions."""
        rules, arms = survey.config.evaluate, compared(survey.config)
        small, adaptive = survey.small_training, survey.adaptive_training
        # the longer training counts for the networks that count; four ways by SGD and two by AdamW are tried
        each = rules.num_networks * max(small, adaptive) + SELECTION_NETWORKS * (4 * small + 2 * adaptive)
        full = (2 * rules.num_networks + 4 * SELECTION_NETWORKS) * rules.full_epochs * survey.epoch
        others = {"full": full, DP_FULL: rules.num_networks * survey.experts}
        seconds = len(rules.architectures) * sum(others.get(arm, each) for arm in arms)
        scored = survey.images - survey.training_images
        return Estimate(seconds, len(arms) * rules.num_networks * scored * survey.classes * 4)

    def discard(self, folder: RunFolder) -> None:
        """Remove cells, tables and the verdict."""
        folder.remove_entry(folder.verdict)
        folder.remove_entry(folder.evaluate)


def evaluate(run: RunContext) -> Comparison:
    """Train fresh networks on every arm, score the test split, compare. Finished cells are kept."""
    data = run.data()
    external = external_set(run, data)
    contest = comparison_inputs(run, data, external)
    inputs = _inputs(run, data, contest)
    (table,) = Evaluate().outputs(run)
    if run.is_up_to_date("evaluate", inputs, table):
        keep_delivered_verdict(run)
        return Comparison.from_dict(read_json(table))
    run.folder.verdict.unlink(missing_ok=True)
    if not any(opening["digest"] == inputs for opening in run.record.test_openings):
        run.record.open_test("evaluate", inputs, deliver=run.config.deliver)
        run.record.save(run.folder.record_file)
    if set(contest.arms) - set(contest.distilled):
        run.record_data_access("train_rivals", inputs, train=data.train)
    run.record_data_access("score", inputs, val=data.val, test=data.test)
    if not run.config.experts.dp.enabled:  # otherwise the configured training ships with the set
        run.record_data_access("choose_training", inputs, val=data.val)
    runs = run_cells(run, contest)
    save_scored_labels(run.folder, data.test, data.val)
    if delivery(run.config, run.folder).scores:
        run.record_data_access("choose_method", inputs, val=data.val)
    if external is not None:
        save_scored_labels(run.folder, external, data.val, elsewhere=True)
        elsewhere = [dataclasses.replace(one, test_probabilities=one.external_probabilities) for one in runs]
        _write_tables(run, data, external, elsewhere, run.folder.evaluate / "external")
    comparison = _write_tables(run, data, data.test, runs, run.folder.evaluate)
    tables = [path for path in run.folder.evaluate.rglob("*") if path.is_file() and path.parent.name != "cells"]
    run.mark_finished("evaluate", inputs, tables, cells=len(runs), deliver=run.config.deliver)
    keep_delivered_verdict(run)
    return comparison


def _inputs(run: RunContext, data: PreparedData, contest: ComparisonInputs) -> str:
    external = None if contest.external is None else fingerprint(contest.external)
    return digest("evaluate", data.digest, dict(contest.basis), external, _rules(run.config))


def _rules(config: RunConfig) -> list[object]:
    """Return the settings that a comparison rests on; how it is pictured is not among them."""
    rules = digested(config.evaluate)
    for name in ("saliency", "bundles", "external"):  # pictures; the others are named by what they hold
        del rules[name]
    return [
        rules,
        digested(config.network),
        digested(config.experts),
        config.distill.ipc,
        config.seed,
    ]


def _write_tables(
    run: RunContext, data: PreparedData, scored: LabelledImages, runs: Sequence[ArmRun], folder: Path
) -> Comparison:
    """Compare `runs` on the images `scored`; leave the tables and the clinical figures in `folder`."""
    config = run.config
    scores = resample_scores(
        runs,
        scored.labels,
        scored.patient_ids,
        scored.class_names,
        bootstrap=config.evaluate.bootstrap,
        seed=config.seed,
    )
    comparison = compare_scores(scores, scored.class_names, confidence=config.evaluate.confidence)
    units = run.patient_units if scored is data.test else external_units(run)
    comparison = dataclasses.replace(comparison, notes=(*comparison.notes, *units.sentences()))
    write_text(folder / "comparison.md", comparison.to_markdown())
    write_text(folder / "comparison.csv", comparison.to_csv())
    clinical = write_clinical(run, data, scored, runs, scores, folder)
    write_verdicts(config, data, scored, runs, scores, comparison, clinical, units, folder)
    write_json(folder / "comparison.json", comparison.to_dict())
    return comparison
