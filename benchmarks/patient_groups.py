"""What draws of Gaussians teach, and how near they come to patients, by the number of patients behind a Gaussian.

    python -m benchmarks.patient_groups WORK/side32-ipc10-seed0 WORK/side32-ipc10-seed1

Takes prepared images and experts of runs of `benchmarks.value`. Images of the method `mixture` are drawn for several
sizes of group, and beside them one Gaussian for all classes (`gaussian`) and real images; all are stored as amplitudes
of 2 bits, in the bytes of the run's images a class, and labelled by the experts. Three figures for each:

- balanced accuracy on validation of networks trained on them, by the training of every arm of a comparison;
- linkage: how often the nearest real image is one of the training patients' (chance: their share of all real images);
- membership: whoever knows a patient's class and image asks how near the nearest image of the set is, in amplitudes
  scaled to unit variance, against validation and test patients; one figure a patient, of their nearest image.

Nothing is chosen here, and no label of the test split is compared with a prediction. Writes
benchmarks/results/patient_groups.json.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.trained import trained
from medidistill.config import RunConfig, with_settings
from medidistill.distillation import Experts, expert_labels
from medidistill.distillation.state import initial_images
from medidistill.evaluate import Arm
from medidistill.files import read_json, write_json
from medidistill.networks import raise_malloc_thresholds
from medidistill.packed_images import dct_amplitudes, rounded_labels
from medidistill.pipeline import RunFolder, load_config
from medidistill.pipeline.prepared import PreparedData
from medidistill.privacy.attacks.linkage import linkage_audit
from medidistill.privacy.statistics import auc_score
from medidistill.record import hardware, versions
from medidistill.seeding import stream
from medidistill.spectral_images import rounded_spectrum

RESULT = Path(__file__).parent / "results" / "patient_groups.json"
GROUPS = (8, 16, 32, 64)
GAUSSIAN, REAL = "gaussian", "real"
BITS, NETWORKS = 2, 3


def ways() -> tuple[str, ...]:
    """Return what is compared: one Gaussian, groups of fewer and fewer patients, real images."""
    return (GAUSSIAN, *map(str, reversed(GROUPS)), REAL)


def stored_images(way: str, config: RunConfig, data: PreparedData) -> Tensor:
    """Return the normalised images of a way, class by class, as a receiver decodes them."""
    shape = with_settings(config.distill, {"decoder": "spectral", "bits": BITS, "objective": "snapshots"})
    images, labels = data.training_tensors()
    count, classes = shape.images_per_class, data.train.num_classes
    if way == REAL:
        chosen = []
        for name in range(classes):
            members = (labels == name).nonzero().flatten()
            order = torch.randperm(len(members), generator=stream(config.seed, "groups", "real", name))
            chosen.append(members[order[torch.arange(count) % len(members)]])
        made = images[torch.cat(chosen)]
    else:
        start = {"init": way} if way == GAUSSIAN else {"init": "mixture", "group_patients": int(way)}
        settings = with_settings(shape, start)
        size = (images.shape[1], images.shape[2], images.shape[3])
        made = initial_images(settings, size, classes, (images, labels), config.seed, data.train.patient_ids)
    return rounded_spectrum(made, images.shape[-1] // shape.factor, BITS)


def membership(shown: Tensor, data: PreparedData) -> dict[str, float]:
    """Return area under the curve and true positive rate at 1 % false positives of the nearest image, by patient."""

    def amplitudes(images: Tensor) -> Tensor:
        return dct_amplitudes(images).flatten(1)

    train, kept = amplitudes(data.normalised(data.train.images)), amplitudes(shown)
    spread = kept.std(0)
    stored = spread > 1e-4 * spread.max()  # the others are 0 in every image of the set, up to rounding errors
    scale = train[:, stored].std(0).clamp_min(1e-6)
    kept = kept[:, stored] / scale
    classes = data.train.num_classes
    of_class = torch.arange(classes).repeat_interleave(len(shown) // classes)
    scores: dict[tuple[bool, str], float] = {}
    for split, member in ((data.train, True), (data.val, False), (data.test, False)):
        real = amplitudes(data.normalised(split.images))[:, stored] / scale
        for name in range(classes):
            mine = (split.labels == name).nonzero().flatten()
            near = -torch.cdist(real[mine], kept[of_class == name]).min(1).values
            for number, score in zip(mine.tolist(), near.tolist(), strict=True):
                key = (member, split.patient_ids[number])
                scores[key] = max(score, scores.get(key, -np.inf))
    truth = np.array([member for member, _ in scores])
    values = np.array(list(scores.values()))
    limit = np.quantile(values[~truth], 0.99)
    return {"auc": auc_score(values[truth], values[~truth]), "tpr_at_1_percent": float((values[truth] > limit).mean())}


def measured(folder: Path) -> list[dict[str, Any]]:
    """Return a row for each way in one run."""
    run = RunFolder(folder)
    config, data = load_config(run.config_file), PreparedData.read(run.ingest)
    pool = Experts(sorted(run.experts.glob("expert-*.safetensors")))
    train = data.train
    others = torch.cat([data.normalised(split.images) for split in (data.val, data.test)])
    rows = []
    for way in ways():
        shown = stored_images(way, config, data)
        labels = rounded_labels(expert_labels(pool, shown, torch.bincount(train.labels).tolist()))
        arm = Arm(way, shown, labels, (config.evaluate.adaptive.plain_training(),))
        one = trained(arm, config.network, data, NETWORKS, config.seed, compile=True)
        found = linkage_audit(shown, data.normalised(train.images), others)
        rows.append(
            {
                "way": way,
                "seed": config.seed,
                "images": len(shown),
                "validation": one.val_score,
                "nearest_is_member": found.pixels.share,
                "chance": found.chance,
                "linkage_p": found.pixels.p_value,
                "near_copies": found.pixels.nearer_than_limit,
                **membership(shown, data),
            }
        )
        print(rows[-1], flush=True)
    return rows


def table(result: Mapping[str, Any]) -> str:
    """Return the Markdown of the result: means over seeds, of p and of near copies the largest."""
    titles = {GAUSSIAN: "one Gaussian a class, one covariance", REAL: "random real X-rays"}
    lines = [
        "| patients of a group | images | validation balanced accuracy | nearest is a member | p, at most | "
        "near copies, at most | membership: AUC | found at 1 % |",
        "|---" * 8 + "|",
    ]
    for way in ways():
        rows = [row for row in result["rows"] if row["way"] == way]

        names = ("validation", "nearest_is_member", "auc", "tpr_at_1_percent")
        score, nearest, auc, found = (np.mean([row[name] for row in rows]) for name in names)
        copies = max(row["near_copies"] for row in rows)
        words = titles.get(way) or f"{way} to {2 * int(way) - 1}"
        by_seed = ", ".join(f"{row['validation']:.3f}" for row in rows)
        lines.append(
            f"| {words} | {rows[0]['images']:,} | {score:.3f} ({by_seed}) | {nearest:.1%} | "
            f"{max(row['linkage_p'] for row in rows):.1g} | {copies} | {auc:.3f} | {found:.1%} |"
        )
    chance, seeds = result["rows"][0]["chance"], {row["seed"] for row in result["rows"]}
    return "\n".join([*lines, "", f"Chance of the nearest to be a member: {chance:.1%}. Seeds: {len(seeds)}."])


def main() -> None:
    """Measure every way in the runs that are given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="run folders of `benchmarks.value`, with experts")
    options = parser.parse_args()
    raise_malloc_thresholds()
    rows = [row for folder in options.runs for row in measured(folder)]
    write_json(
        RESULT,
        {
            "rows": rows,
            "command": shlex.join(
                ["python", "-m", "benchmarks.patient_groups", *(f"WORK/{folder.name}" for folder in options.runs)]
            ),
            "hardware": hardware(),
            "versions": versions(),
        },
    )
    print(table(read_json(RESULT)))


if __name__ == "__main__":
    main()
