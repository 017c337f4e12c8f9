"""A made-up but plausible run for the tests of the report; no value was measured."""

from __future__ import annotations

import numpy as np
import torch

from medidistill.config import NetworkConfig, RunConfig, TrainingConfig, as_dict
from medidistill.distilled_set import DistilledSet, Normalisation
from medidistill.record import RunRecord
from medidistill.report import ReportData
from medidistill.results.comparison import Comparison

NAMES = ("COVID-19", "Normal", "Pneumonia")
ARMS = {"full": 0.87, "random": 0.55, "kmeans": 0.57, "mtt": 0.70, "iadd": 0.71}


def interval(estimate: float, half: float) -> dict[str, float]:
    return {"estimate": estimate, "low": estimate - half, "high": min(1.0, estimate + half)}


def stored_comparison(architectures: tuple[str, ...] = ("convnet",)) -> dict:
    """What `comparison.json` would hold."""
    rows = [
        {
            "arm": arm,
            "architecture": architecture,
            "training_images": 1650 if arm == "full" else 15,
            "networks": 5,
            "seeds": [0],
            "unit": "network",
            "balanced_accuracy": interval(level, 0.04),
            "macro_auroc": interval(min(0.97, level + 0.1), 0.02),
            "sensitivity": [interval(min(0.98, level + shift), 0.06) for shift in (0.1, -0.05, -0.05)],
            "specificity": [interval((1 + level) / 2, 0.03)] * 3,
            "sd_balanced_accuracy": 0.021,
            "sd_macro_auroc": 0.011,
            "val_balanced_accuracy": level,
            "confusion": [[int(100 * level) if i == j else int(50 * (1 - level)) for j in range(3)] for i in range(3)],
            "chosen": [{}],
            "info": [{}],
        }
        for architecture in architectures
        for arm, level in ARMS.items()
    ]
    pairs = [("iadd", "mtt"), *((arm, "random") for arm in ARMS if arm != "random")]
    differences = [
        {
            "arm": a,
            "minus": b,
            "architecture": architecture,
            "metric": metric,
            "bootstrap": interval(ARMS[a] - ARMS[b], 0.035),
            "over_units": None if a == "full" else interval(ARMS[a] - ARMS[b], 0.02),
            "unit": "unpaired" if a == "full" else "network",
        }
        for architecture in architectures
        for a, b in pairs
        for metric in ("balanced_accuracy", "macro_auroc")
    ]
    return {
        "class_names": list(NAMES),
        "rows": rows,
        "differences": differences,
        "test_images": 480,
        "test_patients": 402,
        "bootstrap": 1000,
        "confidence": 0.95,
        "seed": 0,
        "notes": ["3 patient resamples lacked a class and were drawn again."],
    }


def comparison(architectures: tuple[str, ...] = ("convnet",)) -> Comparison:
    return Comparison.from_dict(stored_comparison(architectures))


def chests(count: int, size: int, sharpness: float, seed: int = 0) -> torch.Tensor:
    """Grey ovals in noise, per-image normalised: (count, 1, size, size)."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, size), torch.linspace(-1, 1, size), indexing="ij")
    lungs = torch.exp(-(((x.abs() - 0.45) / 0.28) ** 2) - (y / 0.6) ** 2)
    noise = torch.randn(count, 1, size, size, generator=torch.Generator().manual_seed(seed))
    return Normalisation().apply(-3 * sharpness * lungs + 0.8 * noise)


def histories(steps: int = 120) -> dict[str, list[dict]]:
    layers = [f"blocks.{i}.{part}" for i in range(4) for part in ("conv.weight", "norm.weight", "norm.bias")]
    result = {}
    for number, name in enumerate(("mtt", "iadd")):
        rng = np.random.default_rng(number)
        entries = []
        for step in range(1, steps + 1):
            entry = {"step": step, "loss": float((0.6 + 0.4 * np.exp(-step / 30)) * rng.lognormal(0, 0.08))}
            entry |= {"alpha": 0.02 * float(np.exp(step / 200)), "seconds": 1.0}
            if step % 20 == 0:
                entry["score"] = float(0.5 + 0.2 * (1 - np.exp(-step / 40)) + rng.normal(0, 0.01))
            if name == "iadd":
                entry["effective_sample_size"] = float(np.exp(-step / 400))
                if step % 20 == 0:
                    spread = rng.uniform(0.5, 1.6, len(layers))
                    parts = {"min": 0.5, "q25": 0.85, "median": 1.0, "q75": 1.2, "max": 1.7}
                    entry["w"] = {
                        layer: {key: float(s * value) for key, value in parts.items()}
                        for layer, s in zip(layers, spread, strict=True)
                    }
            entries.append(entry)
        result[name] = entries
    return result


def distilled(init: str = "noise", ipc: int = 5, size: int = 32) -> DistilledSet:
    return DistilledSet(
        images=chests(3 * ipc, size, 0.8),
        labels=torch.arange(3).repeat_interleave(ipc),
        alpha=0.03,
        class_names=NAMES,
        normalisation=Normalisation(),
        network=NetworkConfig(),
        training=TrainingConfig(),
        recipe={"method": "iadd", "init": init, "outer_step": 100},
    )


def record(openings: int = 1) -> RunRecord:
    record = RunRecord(config=as_dict(RunConfig()), command="medidistill run --config run.yaml --output OUT")
    for name in ("ingest", "experts", "distill", "evaluate", "export"):
        record.stage(name)
    for number in range(openings):
        record.open_test("evaluate", f"{number:016x}")
    return record


def report_data(**others) -> ReportData:
    fields = {
        "title": "Distilled chest X-rays: a made-up run",
        "class_names": NAMES,
        "record": record(),
        "notice": "The classes come from different hospitals; the table compares methods, not diagnostic value.",
        "comparison": comparison(),
        "distilled": distilled(),
        "histories": histories(),
        "evolution": [(step, chests(15, 32, 0.8 * step / 120)) for step in range(0, 121, 20)],
        "quarantine": [
            ("ward7/PHANTOM^A.dcm", "PHANTOM^A.dcm: pixel data cannot be decoded"),
            ("ward7/PHANTOM^B.dcm", "PHANTOM^B.dcm: pixel data cannot be decoded"),
            ("ward7/blank.png", "constant image"),
        ],
        "splits": {name: {"train": 500, "val": 80, "test": 160} for name in NAMES},
        "sites": {
            "north": {"COVID-19": 740, "all": 740},
            "south": {"Normal": "hidden", "Pneumonia": 740, "all": "hidden"},
        },
        "confounded": ["Class COVID-19 shares no site with another class (north)"],
        "bundle": "OUT/bundle",
    }
    return ReportData(**(fields | others))
