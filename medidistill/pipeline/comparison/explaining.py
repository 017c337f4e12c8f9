"""Grad-CAM for the report: networks trained again as the comparison trained them, on the same test images."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from medidistill.errors import ConfigError, did_you_mean
from medidistill.evaluate import ArmRun
from medidistill.evaluate.protocol import train_network
from medidistill.evaluate.saliency import draw_cases, grad_cam, outcomes
from medidistill.networks import predict
from medidistill.pipeline.comparison.arms import cell_file, make_arm
from medidistill.pipeline.comparison.cells import ComparisonInputs, comparison_inputs
from medidistill.pipeline.comparison.clinical import clinical_settings
from medidistill.pipeline.comparison.controls import chosen_form
from medidistill.pipeline.prepared import PreparedData
from medidistill.pipeline.runfolder.progress import say
from medidistill.pipeline.work import RunContext
from medidistill.report import ExplainedCase, Explanations
from medidistill.words import arm_words

__all__ = ["explanations"]

_RULE = (
    "Cases were drawn at random among the test images of each outcome (left), one a patient, before any map was made."
)


def explanations(run: RunContext, data: PreparedData) -> Explanations | None:
    """Return what `evaluate.saliency` asks for, None where it asks for nothing. What it returns shows patients.

    Network 0 of each arm is trained again from the same streams: on a CPU the very network that the comparison
    scored.

    Raises:
        ConfigError: an arm that was not compared, or fewer than two.
    """
    asked = run.config.evaluate.saliency
    if not asked.cases:
        return None
    contest = comparison_inputs(run, data, None)
    arms = _arms(run, contest)
    architecture, names = run.config.evaluate.architectures[0], data.test.class_names
    probabilities, networks, inputs = {}, {}, {}
    for arm in arms:
        say(run.progress, f"report: training {arm} again, to see what it looks at")
        networks[arm] = _network(run, contest, arm, architecture)
        normalisation = contest.distilled[arm].normalisation if arm in contest.distilled else data.normalisation
        inputs[arm] = normalisation.apply(data.test.images)
        probabilities[arm] = predict(networks[arm], inputs[arm]).numpy()
    truth = data.test.labels.numpy()
    right = {arm: p.argmax(axis=1) == truth for arm, p in probabilities.items()}
    first, last = (f"the network trained on {arm_words(arm, run.config.distill.ipc)}" for arm in (arms[0], arms[-1]))
    by_outcome = outcomes(first, right[arms[0]], last, right[arms[-1]])
    drawn = draw_cases(by_outcome, data.test.patient_ids, asked.cases, run.config.seed)
    chosen = [(outcome, index) for outcome, found in drawn.items() for index in found]
    index = [place for _, place in chosen]
    maps = {
        arm: grad_cam(
            networks[arm], inputs[arm][torch.tensor(index)], probabilities[arm][index].argmax(axis=1).tolist()
        )
        for arm in arms
    }
    originals = _originals(run, [data.test.keys[place] for place in index] if data.test.keys else [])
    cases = [
        ExplainedCase(
            outcome=outcome,
            truth=names[int(truth[place])],
            image=data.test.images[place, 0].numpy(),
            maps={arm: maps[arm][row] for arm in arms},
            called={arm: (names[int(p[place].argmax())], float(p[place].max())) for arm, p in probabilities.items()},
            original=originals.get(data.test.keys[place]) if data.test.keys else None,
        )
        for row, (outcome, place) in enumerate(chosen)
    ]
    return Explanations(architecture, _RULE, {name: len(found) for name, found in by_outcome.items()}, cases)


def _originals(run: RunContext, keys: Sequence[str]) -> Mapping[str, npt.NDArray[np.floating[Any]]]:
    """Return the films of some prepared images at the resolution of their files, as far as these are still there."""
    source, table = run.folder.noted_source(), run.folder.ingest / "manifest.csv"
    if source is None or not table.is_file():
        return {}
    with open(table, encoding="utf-8", newline="") as file:
        digests = {row["key"]: row["sha256"] for row in csv.DictReader(file)}
    say(run.progress, "report: reading the chosen films at the resolution of their files")
    from medidistill.ingest.originals import original_squares  # MONAI takes seconds to load

    wanted = {key: digests[key] for key in keys if key in digests}
    return original_squares(source, run.config.ingest, wanted, run.folder.ingest)


def _arms(run: RunContext, contest: ComparisonInputs) -> Sequence[str]:
    reference = clinical_settings(run.config, contest.arms).reference
    wanted = run.config.evaluate.saliency.arms or (reference, *contest.distilled)
    arms = tuple(dict.fromkeys(wanted))
    for arm in arms:
        if arm not in contest.arms:
            raise ConfigError(
                f"evaluate.saliency.arms: {arm!r} is not compared; known: {', '.join(contest.arms)}"
                f"{did_you_mean(arm, contest.arms)}"
            )
    if len(arms) < 2:
        raise ConfigError(
            f"evaluate.saliency.arms: only {', '.join(arms)}; name two arms to see side by side, or set "
            "evaluate.saliency.cases to 0"
        )
    return arms


def _network(run: RunContext, contest: ComparisonInputs, name: str, architecture: str) -> torch.nn.Module:
    cell = ArmRun.load(cell_file(run.folder, name, architecture))
    arm = make_arm(name, run.config, contest.data, contest.distilled, contest.experts)
    return train_network(
        chosen_form(arm, cell),
        cell.chosen,
        dataclasses.replace(run.config.network, name=architecture),
        contest.data.train.num_classes,
        run.config.seed,
        0,
        compile=bool(cell.info.get("compiled", False)),
    )
