"""Runs of made-up networks, for the tests of the comparison, the checklist and the figures."""

from __future__ import annotations

import numpy as np

from medidistill.config import TrainingConfig
from medidistill.evaluate.clinical import ClinicalComparison, ClinicalSettings, clinical_comparison
from medidistill.evaluate.protocol import ArmRun

NAMES = ("COVID-19", "Normal", "Pneumonia")
SETTINGS = ClinicalSettings(bootstrap=200)
IMAGES, VAL_IMAGES = 360, 180


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(-1, keepdims=True))
    return (e / e.sum(-1, keepdims=True)).astype(np.float32)


def labels_and_patients(images: int, seed: int) -> tuple[np.ndarray, list[str]]:
    labels = np.arange(images) // 2 % 3
    return labels, [f"PHANTOM-{seed}-{i // 2}" for i in range(images)]


TEST, PATIENTS = labels_and_patients(IMAGES, 0)
VAL, _ = labels_and_patients(VAL_IMAGES, 1)


def run(arm: str, skill: float, *, seed: int = 0, networks: int = 2, architecture="convnet", val=True) -> ArmRun:
    """Networks that see the same difficult images as difficult; `skill` is the lead of the true class."""
    parts = []
    for split, labels in enumerate((TEST, VAL)):
        shared = np.random.default_rng(split).normal(size=(len(labels), 3))
        own = np.random.default_rng([split, seed, len(arm)]).normal(size=(networks, len(labels), 3))
        parts.append(softmax(skill * np.eye(3)[labels] + shared + 0.4 * own))
    return ArmRun(
        arm=arm,
        architecture=architecture,
        seed=seed,
        chosen=TrainingConfig(),
        training_images=15,
        num_classes=3,
        val_balanced_accuracy=(0.6,) * networks,
        test_probabilities=parts[0],
        val_probabilities=parts[1] if val else None,
    )


def compared(**others) -> ClinicalComparison:
    runs = others.pop("runs", [run("full", 2.5), run("random", 0.8), run("iadd", 2.2)])
    options = {"settings": SETTINGS, "val_labels": VAL} | others
    return clinical_comparison(runs, TEST, PATIENTS, NAMES, **options)


def stored(**others) -> dict:
    """What `clinical.json` would hold."""
    return compared(**others).to_dict()
