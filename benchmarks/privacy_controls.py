"""Controls of the audit on real X-rays at 16 pixels: what must be found is found, and strangers are not.

    python -m benchmarks.privacy_controls run --data $MEDIDISTILL_DATA/covid-cxr --work work/controls [--only strangers]
    python -m benchmarks.privacy_controls collect --work work/controls

| control | what is audited | must |
|---|---|---|
| `own` | a set distilled from noise, and the patients that it was made from | be measured |
| `strangers` | a set made from the validation split, and the training patients, whom it never saw | pass |
| `copies` | X-rays of those patients in its place | fail linkage and copies |
| `real_start` | a set that started from X-rays (`init: real`) | fail start, and linkage or copies by themselves |
| `loud` | canaries ten times as heavy | be found: more guesses right than chance allows |

A stopped run goes on with the shadow runs it lacks. `collect` writes benchmarks/results/privacy_controls.json over what
is there; `tests/privacy/test_controls.py` asserts what the table says.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from medidistill.config import DistillConfig, ExpertConfig, IngestConfig, NetworkConfig, PolicyConfig, TrainingConfig
from medidistill.distilled_set import DistilledSet, LabelledImages
from medidistill.files import read_json, write_json
from medidistill.ingest import IngestResult, ingest
from medidistill.pipeline.release.auditing import Procedure, non_members
from medidistill.privacy import AuditProfile, Claim, audit, audit_text, set_digest
from medidistill.privacy.gate import evaluate_policy
from medidistill.record import hardware, versions
from medidistill.results.audit import AuditDocument

RESULT = Path(__file__).parent / "results" / "privacy_controls.json"
PROFILE = AuditProfile("control", shadows=16, canaries=1024, students=1, experts=2, recogniser_steps=50)
DISTILL = DistillConfig(ipc=7, outer_steps=40, inner_steps=5, max_start=3, validate_every=0, compile="off")
SIDE, SEED = 16, 11


def procedure(data: IngestResult, folder: Path, **changes: Any) -> Procedure:
    """Return the procedure under audit: two experts, 21 images (15 could not resolve linkage)."""
    folder.mkdir(parents=True, exist_ok=True)
    return Procedure(
        NetworkConfig(width=8, depth=2),
        ExpertConfig(count=2, epochs=5, lr=0.02),
        dataclasses.replace(DISTILL, **changes),
        TrainingConfig(steps=100, batch_size=15),
        data.train.class_names,
        data.normalisation,
        folder,
    )


def made(data: IngestResult, distill: Procedure, train: LabelledImages) -> DistilledSet:
    """Distill the images of `train`."""
    return distill(data.normalisation.apply(train.images), train.labels, train.patient_ids, SEED)


def judged(
    data: IngestResult,
    release: DistilledSet,
    distill: Procedure,
    members: LabelledImages,
    folder: Path,
    *,
    init: str = "",
    others: LabelledImages | None = None,
    **profile: Any,
) -> dict[str, Any]:
    """Audit a set; return the document with the rules of the default policy that it fails, in spite of any record."""
    asked = dataclasses.replace(PROFILE, **profile)
    strange = non_members(data) if others is None else others
    found = audit(release, members, strange, distill, asked, procedure=distill.digest, folder=folder, seed=1)
    said = init or str(release.recipe["init"])
    verdicts = evaluate_policy(PolicyConfig(), found, Claim("none"), name=set_digest(release), init=said, budget=None)
    return {**found.to_dict(), "failed": sorted(verdict.rule for verdict in verdicts if not verdict.passed)}


def own(data: IngestResult, work: Path) -> dict[str, Any]:
    """Audit a set against its own patients."""
    distill = procedure(data, work / "scratch")
    return judged(data, made(data, distill, data.train), distill, data.train, work / "shadows-own")


def strangers(data: IngestResult, work: Path) -> dict[str, Any]:
    """Audit a set of the validation split's patients against the training split's."""
    distill = procedure(data, work / "scratch")
    return judged(
        data, made(data, distill, data.val), distill, data.train, work / "shadows-strangers", others=data.test
    )


def copies(data: IngestResult, work: Path) -> dict[str, Any]:
    """Audit X-rays of those patients, called a set from noise."""
    distill = procedure(data, work / "scratch")
    release = made(data, distill, data.val)
    real = dataclasses.replace(release, images=data.normalisation.apply(data.train.images[: len(release)]))
    return judged(data, real, distill, data.train, work / "shadows-strangers", others=data.test)


def real_start(data: IngestResult, work: Path) -> dict[str, Any]:
    """Audit a real start, and say it began from noise."""
    distill = procedure(data, work / "scratch", init="real")
    release = made(data, distill, data.train)
    return judged(data, release, distill, data.train, work / "shadows-real-start", init="noise")


def loud(data: IngestResult, work: Path) -> dict[str, Any]:
    """Audit with canaries of weight 10."""
    distill = procedure(data, work / "scratch")
    release = made(data, distill, data.train)
    return judged(data, release, distill, data.train, work / "shadows-loud", weight=10, canaries=512, students=8)


CONTROLS: dict[str, Callable[[IngestResult, Path], dict[str, Any]]] = {
    "strangers": strangers,
    "copies": copies,
    "real_start": real_start,
    "loud": loud,
    "own": own,
}


def main() -> None:
    """Parse and do."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "collect"))
    parser.add_argument("--data", type=Path, help="folder of covid-cxr")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=tuple(CONTROLS), default=list(CONTROLS))
    arguments = parser.parse_args()
    if arguments.what == "run":
        data = ingest(arguments.data, IngestConfig(image_size=SIDE))
        for name in arguments.only:
            file = arguments.work / f"{name}.json"
            if file.exists():
                continue
            began = time.process_time()
            found = CONTROLS[name](data, arguments.work)
            write_json(file, {**found, "cpu_seconds": round(time.process_time() - began, 1)})
            told = audit_text(AuditDocument.from_dict(found))
            print(
                f"{name}: fails {', '.join(found['failed']) or 'nothing'}\n{told}",
                flush=True,
            )
        return
    kept = {
        name: read_json(arguments.work / f"{name}.json")
        for name in CONTROLS
        if (arguments.work / f"{name}.json").exists()
    }
    write_json(RESULT, {"controls": kept, "side": SIDE, "hardware": hardware(), "versions": versions()})
    for name, found in kept.items():
        print(f"{name}: fails {', '.join(found['failed']) or 'nothing'}")


if __name__ == "__main__":
    main()
