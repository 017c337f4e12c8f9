"""What is done with finished bundles: train from one, score several on labelled X-rays, put them together."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from medidistill.config import IngestConfig, TrainingConfig
from medidistill.distilled_set import DistilledSet, LabelledImages
from medidistill.errors import ConfigError, IngestError
from medidistill.evaluate import Arm, Comparison, compare, run_arm
from medidistill.evaluate.intervals import paired_t_interval
from medidistill.evaluate.metrics import balanced_accuracy_score
from medidistill.evaluate.protocol import ArmRun
from medidistill.export import load, require_verified, write_bundle
from medidistill.export.merging import Part, merge_sets, one_sided_classes, read_part, sources_of
from medidistill.files import save_tensors, sha256_file
from medidistill.pipeline.comparison.class_mapping import load_class_mapping
from medidistill.pipeline.runfolder.progress import Bar, say
from medidistill.record import RunRecord

__all__ = ["OWN", "check_new", "merge", "score", "train"]

MERGED = "merged"
OWN = "own X-rays"  # the arm of networks trained on images of the folder that is tested on
_SUBTRACTED = "random"
_BASELINE_TEST = 0.5  # share of the patients that is tested on, where the labels name no splits
_BASELINE_EPOCHS, _BASELINE_BATCH = 20, 64
_NOT_TUNED = (
    "The merged set trains by the settings of its largest part; nothing was chosen on it. Parts made from the same "
    "patients count these twice, and what each release tells about them adds up."
)


def train(path: Path, output: Path, *, seed: int = 0, progress: bool = True) -> Path:
    """Train a fresh network from a bundle and write its weights as safetensors.

    The header names classes, normalisation, architecture, seed and the bundle by the digest of its checksums.

    Args:
        path: the bundle; it is verified first.
        output: new file for the weights.
        seed: of initial weights, batches and augmentation.
        progress: say on stderr what is done.

    Raises:
        ConfigError: `output` exists.
        IngestError: the bundle does not verify.
    """
    check_new(output)
    require_verified(path)
    bundle = load(path)
    say(progress, f"train: {bundle.training.steps} steps on {len(bundle)} images")
    network = bundle.train(seed=seed)
    header = {
        "kind": "trained_network",
        "format": 1,
        "classes": list(bundle.class_names),
        "normalisation": bundle.normalisation.plain(),
        "architecture": bundle.facts["architecture"],
        "bundle": sha256_file(Path(path) / "SHA256SUMS"),
        "seed": seed,
    }
    save_tensors(Path(output), network.state_dict(), header)
    return Path(output)


def score(
    sets: Mapping[str, DistilledSet],
    folder: Path,
    *,
    networks: int = 5,
    seed: int = 0,
    progress: bool = True,
    baseline: bool = False,
) -> Comparison:
    """Train fresh networks on each set by its own recipe and score them on labelled X-rays.

    Where the labels of the folder name splits, its test split alone is used, else all images. Nothing is chosen.
    The notes of the result say by how much the first set's balanced accuracy exceeds each other's.

    Args:
        sets: name -> distilled set; all of one shape, with the same classes and normalisation. The first has images
            of every class; others may lack some.
        folder: labelled X-rays in any layout that `medidistill ingest` reads.
        networks: fresh networks a set; network i starts from the same weights on every set.
        seed: of networks and resamples.
        progress: draw a bar on stderr.
        baseline: train networks on X-rays of the folder, too (arm `own X-rays`): on its training split, where its
            labels name splits, else on half of its patients. The other half is the test split then.

    Raises:
        IngestError: the folder cannot be read, or its labels are not the classes of the sets.
    """
    one = next(iter(sets.values()))
    images, own = _real(folder, one, progress, baseline)
    runs = [_run(name, chosen, one, images, networks, seed, progress) for name, chosen in sets.items()]
    notes = []
    if own is not None:
        training = _baseline_training(one.training, len(own))
        runs.append(_run_own(own, training, one, images, networks, seed, progress))
        notes.append(
            f"{OWN}: networks of the same kind, trained on {len(own)} images of {len(set(own.patient_ids))} patients "
            f"of the test folder for {training.steps} steps at the learning rate of the bundle; nothing was chosen for "
            "them."
        )
    # `compare` subtracts the arm `random` from every other; here that is the baseline
    named = [dataclasses.replace(run, arm=_SUBTRACTED) if run.arm == OWN else run for run in runs]
    comparison = compare(named, images.labels, images.patient_ids, images.class_names, seed=seed)
    if own is not None:
        comparison = _renamed(comparison)
    notes += _advantages(runs, images.labels.numpy()) if networks > 1 else []
    return dataclasses.replace(comparison, notes=(*comparison.notes, *notes))


def _renamed(comparison: Comparison) -> Comparison:
    """Return a comparison in which the arm that was subtracted has the name of the baseline again."""
    names = {_SUBTRACTED: OWN}
    rows = tuple(dataclasses.replace(row, arm=names.get(row.arm, row.arm)) for row in comparison.rows)
    gaps = tuple(
        dataclasses.replace(gap, arm=names.get(gap.arm, gap.arm), minus=names.get(gap.minus, gap.minus))
        for gap in comparison.differences
    )
    return dataclasses.replace(comparison, rows=rows, differences=gaps)


def _baseline_training(recipe: TrainingConfig, images: int) -> TrainingConfig:
    """Return how networks are trained on real images: by the recipe of the set, for at least 20 epochs."""
    batch = max(recipe.batch_size, _BASELINE_BATCH)
    steps = max(recipe.steps, _BASELINE_EPOCHS * math.ceil(images / batch))
    return dataclasses.replace(recipe, batch_size=batch, steps=steps)


def _advantages(runs: Sequence[ArmRun], labels: npt.NDArray[np.int64]) -> list[str]:
    """Say by how much the first run's balanced accuracy exceeds each other's, paired over networks."""

    def accuracies(run: ArmRun) -> list[float]:
        assert run.test_probabilities is not None
        return [balanced_accuracy_score(labels, one) for one in run.test_probabilities]

    first, notes = accuracies(runs[0]), []
    for run in runs[1:]:
        gain = paired_t_interval([a - b for a, b in zip(first, accuracies(run), strict=True)])
        notes.append(
            f"Balanced accuracy, {runs[0].arm} minus {run.arm}: {gain.estimate:+.3f} "
            f"[{gain.low:+.3f}, {gain.high:+.3f}] (95 % t over networks; the choice of patients is not in it)."
        )
    return notes


def merge(
    paths: Sequence[Path],
    output: Path,
    *,
    name: str,
    rename: Mapping[str, str] | None = None,
    classes: Path | None = None,
    evaluate: Path | None = None,
    networks: int = 5,
    seed: int = 0,
    progress: bool = True,
) -> tuple[Path, Comparison | None]:
    """Write one bundle that holds the images of several, with all their provenances.

    Args:
        paths: bundles; each is verified first.
        output: new folder.
        name: title of the card.
        rename: old class name -> new class name, for hospitals that call one class by different names.
        classes: mapping file (`medidistill.pipeline.comparison.class_mapping`), for hospitals with different sets of
            classes; instead of `rename`.
        evaluate: labelled X-rays to score the merged set and each part on; None: not evaluated.
        networks: fresh networks a set, with `evaluate`.
        seed: of the evaluation.
        progress: draw bars on stderr.

    Returns:
        The folder and the comparison.

    Raises:
        ConfigError: the bundles do not go together; what differs is named.
        IngestError: a bundle does not verify.
    """
    check_new(output)
    if rename and classes is not None:
        raise ConfigError("--rename and --classes: give one of them; the mapping file can rename, too")
    if classes is None:
        parts = [read_part(path, rename) for path in paths]
    else:
        mappings = load_class_mapping(classes, paths)
        parts = [read_part(path, mapping=mapping) for path, mapping in zip(paths, mappings, strict=True)]
    merged, sources = merge_sets(parts), sources_of(parts)
    comparison = None
    if evaluate is not None:
        alone = {f"{number + 1}: {part.bundle.facts['name']}": part.bundle for number, part in enumerate(parts)}
        comparison = score({MERGED: merged, **alone}, evaluate, networks=networks, seed=seed, progress=progress)
    notices = dict.fromkeys(str(part.bundle.facts.get("notice", "")) for part in parts)
    folder = write_bundle(
        merged,
        Path(output),
        name=name,
        record=RunRecord(command="medidistill merge"),
        comparison=comparison,
        notice=" ".join([*(text for text in notices if text), *_about_classes(parts), _NOT_TUNED]),
        sources=sources,
        merged_from=[part.provenance() for part in parts],
    )
    return folder, comparison


def _about_classes(parts: Sequence[Part]) -> list[str]:
    """Say how classes were translated, and which of them one hospital alone contributes."""
    told = []
    for number, part in enumerate(parts, 1):
        changes = [f"{old} to {new}" for old, new in part.translated.items() if new is not None]
        dropped = [old for old, new in part.translated.items() if new is None]
        changes += [f"{', '.join(dropped)} left out"] if dropped else []
        if changes:
            told.append(f"Classes of part {number} ({part.bundle.facts['name']}): {'; '.join(changes)}.")
    for name, owner in one_sided_classes(parts).items():
        told.append(
            f"All images of class {name} come from {owner}: a network may recognise the hospital instead of the class."
        )
    return told


def check_new(output: Path, option: str = "--output") -> None:
    """Raise `ConfigError` where a file or folder that is to be written is there."""
    if os.path.lexists(output):
        raise ConfigError(f"{option} {output}: exists, and nothing is overwritten; name another")


def _real(
    folder: Path, distilled: DistilledSet, progress: bool, baseline: bool
) -> tuple[LabelledImages, LabelledImages | None]:
    """Return the images to test on, and with `baseline` those to train on."""
    from medidistill.ingest import ingest  # MONAI takes seconds to load

    shape = distilled.images.shape
    if shape[1] != 1:
        raise ConfigError(f"{shape[1]} channels: X-rays are read with one; this set cannot be scored on a folder")
    config = IngestConfig(
        image_size=shape[-1],
        classes=distilled.class_names,
        val_fraction=0.0,
        test_fraction=_BASELINE_TEST if baseline else 0.0,
    )
    found = ingest(Path(folder), config, progress=progress)
    if not baseline:
        return (found.test if len(found.test) else found.train), None
    if not len(found.train) or not len(found.test):
        raise IngestError(
            f"{folder}: has no {'training' if len(found.test) else 'test'} images, and the baseline needs both; name "
            "splits in labels.csv, or test without the baseline"
        )
    return found.test, found.train


def _run(
    name: str,
    distilled: DistilledSet,
    whole: DistilledSet,
    real: LabelledImages,
    networks: int,
    seed: int,
    progress: bool,
) -> ArmRun:
    arm = Arm(name, distilled.images, distilled.targets, (distilled.training,))
    return _scored(arm, distilled, whole, real, networks, seed, progress)


def _run_own(
    own: LabelledImages,
    training: TrainingConfig,
    distilled: DistilledSet,
    real: LabelledImages,
    networks: int,
    seed: int,
    progress: bool,
) -> ArmRun:
    """Train networks on real images of the folder; they see classes in the order of the set, as `_run` does."""
    place = {name: number for number, name in enumerate(distilled.class_names)}
    labels = torch.tensor([place[own.class_names[int(label)]] for label in own.labels], dtype=torch.int64)
    arm = Arm(OWN, distilled.normalisation.apply(own.images), labels, (training,))
    return _scored(arm, distilled, distilled, real, networks, seed, progress)


def _scored(
    arm: Arm,
    distilled: DistilledSet,
    whole: DistilledSet,
    real: LabelledImages,
    networks: int,
    seed: int,
    progress: bool,
) -> ArmRun:
    """Train networks on an arm whose classes are in the order of `distilled`; probabilities are in that of `real`."""
    order = [distilled.class_names.index(one) for one in real.class_names]
    with Bar(f"score {arm.name}", 0, "network", progress) as bar:
        run = run_arm(
            arm,
            network=distilled.network,
            # nothing is chosen, so the place of a validation split is taken by a set that has images of every class
            val_images=whole.images,
            val_labels=whole.labels,
            test_images=distilled.normalisation.apply(real.images),
            num_classes=distilled.num_classes,
            networks=networks,
            seed=seed,
            on_network=bar.at,
        )
    assert run.test_probabilities is not None
    return dataclasses.replace(run, test_probabilities=run.test_probabilities[..., order])
