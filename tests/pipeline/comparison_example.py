"""A run that has read its images and is ready to compare: bright squares whose place tells the class."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from medidistill.config import (
    AdaptiveTraining,
    EvaluateConfig,
    IngestConfig,
    NetworkConfig,
    RunConfig,
    TrainingConfig,
    as_dict,
)
from medidistill.distilled_set import DistilledSet, LabelledImages, Normalisation
from medidistill.export import write_bundle
from medidistill.pipeline import GracefulShutdown, RunFolder
from medidistill.pipeline.prepared import save_split
from medidistill.pipeline.runfolder.journal import Journal
from medidistill.pipeline.work import RunContext
from medidistill.privacy import ProvenanceLog
from medidistill.record import RunRecord

NAMES = ("COVID-19", "Normal")
SMALL = TrainingConfig(steps=4, batch_size=8, lr=0.02)


def squares(n: int, size: int, seed: int, site_shift: float = 0.0) -> LabelledImages:
    """Two images a patient; site north is brighter at the frame by `site_shift`."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) // 2 % 2
    sites = np.arange(n) // 4 % 2
    images = 0.2 + 0.1 * rng.random((n, 1, size, size))
    half = size // 2
    for i, (label, site) in enumerate(zip(labels, sites, strict=True)):
        images[i, 0, :half] += 0.5 * label
        images[i, 0, :, -2:] += site_shift * site
    return LabelledImages(
        images=torch.tensor(images.clip(0, 1), dtype=torch.float32),
        labels=torch.tensor(labels),
        class_names=NAMES,
        patient_ids=tuple(f"PHANTOM^{seed}-{i // 2}" for i in range(n)),
        keys=tuple(f"{seed}/{i}.png" for i in range(n)),
        sites=tuple(("south", "north")[site] for site in sites),
        sexes=tuple("FM"[i // 8 % 2] for i in range(n)),
        ages=tuple(None if i % 5 == 4 else 20.0 + 50 * (i // 4 % 2) for i in range(n)),
    )


def ready_run(
    folder: Path, *, size: int = 16, images: int = 48, site_shift: float = 0.0, **evaluate: object
) -> RunContext:
    """Return a run whose ingest has finished; `evaluate` changes `EvaluateConfig`."""
    fields: dict = {
        "arms": ("full", "random"),
        "num_networks": 1,
        "full_epochs": 1,
        "bootstrap": 100,
        "small_set_training": SMALL,
    }
    fields["adaptive"] = AdaptiveTraining(steps=4, batch_size=8)
    config = RunConfig(
        ingest=IngestConfig(image_size=size),
        network=NetworkConfig(width=4, depth=1),
        evaluate=EvaluateConfig(**(fields | evaluate)),
    )
    config = dataclasses.replace(config, distill=dataclasses.replace(config.distill, ipc=2))
    place = RunFolder.create(folder, config)
    run = RunContext(
        place,
        config,
        RunRecord(config=as_dict(config)),
        GracefulShutdown(),
        Journal(place, "evaluate", ("evaluate",)),
        False,
    )
    header = {"digest": "0" * 16, "normalisation": as_dict(Normalisation())}
    run.folder.ingest.mkdir()
    for number, split in enumerate(("train", "val", "test")):
        save_split(run.folder.ingest / f"{split}.safetensors", squares(images, size, number, site_shift), header)
    (run.folder.ingest / "manifest.csv").write_text("key,sha256\n")
    ProvenanceLog().save(run.folder.provenance)
    run.record.stage("ingest", inputs="here", images={"train": {}}, quarantined=0)
    return run


def bundle(folder: Path, names: tuple[str, ...] = NAMES, size: int = 16, **fields: object) -> Path:
    """Write a bundle of four images a class, labelled in the order of `names`."""
    made = squares(8, size, 77)
    order = [["covid" in name.lower() for name in names].index(label == 0) for label in made.labels.tolist()]
    values: dict = {
        "images": Normalisation().apply(made.images),
        "labels": torch.tensor(order),
        "alpha": 0.02,
        "class_names": names,
        "normalisation": Normalisation(),
        "network": NetworkConfig(width=4, depth=1),
        "training": SMALL,
        "recipe": {"method": "iadd", "init": "noise"},
    }
    return write_bundle(
        DistilledSet(**(values | fields)), folder, name="elsewhere", record=RunRecord(), comparison=None, notice=""
    )


def write_folder(folder: Path, images: LabelledImages) -> Path:
    """Write images as PNG files with `labels.csv`."""
    folder.mkdir()
    with open(folder / "labels.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "label", "patient_id", "site", "split"])
        for i, image in enumerate(images.images):
            name = f"{i}.png"
            Image.fromarray((255 * image[0].numpy()).astype(np.uint8)).save(folder / name)
            label = images.class_names[int(images.labels[i])]
            table.writerow([name, label, images.patient_ids[i], images.sites[i], "train"])
    return folder
