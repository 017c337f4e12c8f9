"""Processor time of one shadow run of the audit `quick`, and how far rounding moves what it shows.

    medidistill run --config covid-cxr --set ingest.image_size=32 --input $MEDIDISTILL_DATA/covid-cxr --output OUT \\
        --until ingest
    python -m benchmarks.shadow_run OUT --label after

Processor time, not time on the clock: other work on the machine changes it little. Compilation is done before, as it
serves all shadow runs of a process. Adds an entry to benchmarks/results/shadow_run.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from medidistill.distilled_set import DistilledSet
from medidistill.files import read_json, write_json
from medidistill.pipeline import load_config
from medidistill.pipeline.arms import method_config
from medidistill.pipeline.auditing import Procedure, outsiders
from medidistill.pipeline.prepared import Prepared
from medidistill.privacy.audit import make_pool, profile_named
from medidistill.privacy.shadows import log_probabilities, plan_shadows
from medidistill.record import hardware, versions

RESULT = Path(__file__).parent / "results" / "shadow_run.json"


def measure(run: Path, seed: int) -> dict[str, Any]:
    """Return the processor seconds of run 0 of the audit's plan, on one thread."""
    torch.set_num_threads(1)
    config, data, profile = load_config(run / "run.yaml"), Prepared.read(run / "ingest"), profile_named("quick")
    side = config.ingest.image_size
    empty = torch.zeros(data.train.num_classes, 1, side, side)
    release = DistilledSet(
        empty,
        torch.arange(len(empty)),
        0.05,
        data.train.class_names,
        data.normalisation,
        config.network,
        config.evaluate.small,
        recipe={"method": "iadd", "init": "noise"},
    )
    pool = make_pool(release, data.train, outsiders(data))
    plan = plan_shadows(pool, data.normalisation, runs=profile.shadows, canaries=profile.canaries, seed=0)
    images, labels, people = plan.training_set(pool, 0)
    asked = torch.cat([pool.images, torch.from_numpy(plan.canary_images)])
    with tempfile.TemporaryDirectory() as scratch:
        procedure = Procedure(
            config.network,
            dataclasses.replace(config.experts, count=profile.experts),
            dataclasses.replace(method_config(config, "iadd"), validate_every=0),
            config.evaluate.small,
            data.train.class_names,
            data.normalisation,
            Path(scratch),
            compile=True,
        )
        short = dataclasses.replace(
            procedure,
            experts=dataclasses.replace(procedure.experts, count=1),
            distillation=dataclasses.replace(procedure.distillation, outer_steps=1),
        )
        first = short(images, labels, people, seed)  # compiles every shape
        training = dataclasses.replace(first.training, steps=2)
        log_probabilities(dataclasses.replace(first, training=training), asked[:64], 1, seed, compile=True)
        began = time.process_time()
        made = procedure(images, labels, people, seed)
        distilled = time.process_time()
        log_probabilities(made, asked, profile.students, seed, compile=True)
        scored = time.process_time()
    return {
        "distillation_cpu_seconds": round(distilled - began, 1),
        "students_cpu_seconds": round(scored - distilled, 1),
        "load": round(os.getloadavg()[1], 1),
    }


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder whose ingest has finished")
    parser.add_argument("--label", required=True, help="name of the entry")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    result = read_json(RESULT) if RESULT.is_file() else {"entries": {}}
    result["entries"][options.label] = measure(options.run, options.seed)
    write_json(RESULT, {**result, "hardware": hardware(), "versions": versions()})
    print(result["entries"][options.label])


if __name__ == "__main__":
    main()
