"""The audit stage: attacks on the run's set, with the run's own procedure for the shadow runs."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from medidistill.config import DistillConfig, ExpertConfig, NetworkConfig, TrainingConfig, digest
from medidistill.distill import distill, train_experts
from medidistill.distill.noised_statistics import noised_statistics
from medidistill.distill.public_features import features_of
from medidistill.distill.statistics_images import distil_statistics
from medidistill.distilled_set import DistilledSet, LabelledImages, Normalisation
from medidistill.errors import DivergedError
from medidistill.files import read_json, write_json, write_text
from medidistill.networks import secret_generator
from medidistill.pipeline.arms import delivered, method_config
from medidistill.pipeline.prepared import Prepared, private_folder
from medidistill.pipeline.progress import say
from medidistill.pipeline.released_statistics import release_noise
from medidistill.pipeline.stages import with_noise
from medidistill.pipeline.work import Run
from medidistill.privacy import AuditProfile, profile_named
from medidistill.privacy import audit as attack
from medidistill.privacy.officer import officer_html, officer_markdown

if TYPE_CHECKING:
    from medidistill.ingest import IngestResult

__all__ = ["Procedure", "audit", "audit_file", "outsiders"]


class _EnoughError(Exception):
    """The estimate was all that was asked for."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds


def audit_file(run: Run) -> Path:
    """Return the file of the run's audit."""
    return run.folder.audit / "audit.json"


@dataclass(frozen=True)
class Procedure:
    """Experts and distillation of a run on other images; handed to the shadow runs.

    The outer step is not picked on validation: a shadow keeps its last one.

    Args:
        network: of experts and students.
        experts: their settings.
        distillation: the run's.
        training: recipe that the set carries.
        class_names: in label order.
        normalisation: of the run.
        scratch: where experts are kept while a shadow needs them; holds patient data.
    """

    network: NetworkConfig
    experts: ExpertConfig
    distillation: DistillConfig
    training: TrainingConfig
    class_names: tuple[str, ...]
    normalisation: Normalisation
    scratch: Path

    def __call__(self, images: Tensor, labels: Tensor, patients: Sequence[str], seed: int) -> DistilledSet:
        """Train experts on normalised images and distil them. Raises `DivergedError`."""
        if self.distillation.objective == "statistics":
            return self._released(images, labels, patients, seed)
        with tempfile.TemporaryDirectory(dir=self.scratch) as folder:
            files = train_experts(
                images,
                labels,
                num_classes=len(self.class_names),
                network=self.network,
                config=self.experts,
                seed=seed,
                folder=Path(folder),
                patients=patients,
            )
            result = distill(
                files,
                self.distillation,
                class_names=self.class_names,
                normalisation=self.normalisation,
                training=self.training,
                seed=seed,
                real=(images, labels) if self.distillation.reads_real else None,
            )
        if result.status != "completed":
            raise DivergedError(f"audit: a shadow run ended as {result.status}; lower distill.lr_images")
        return result.distilled

    def _released(self, images: Tensor, labels: Tensor, patients: Sequence[str], seed: int) -> DistilledSet:
        """Make a set as `dp_stats` does, with fresh noise."""
        statistics = noised_statistics(
            features_of(images),
            labels,
            patients,
            num_classes=len(self.class_names),
            noise_multiplier=release_noise(self.experts.dp),
            generator=secret_generator(),
        )
        return distil_statistics(
            statistics,
            ipc=self.distillation.ipc,
            shape=(images.shape[1], images.shape[2], images.shape[3]),
            class_names=self.class_names,
            normalisation=self.normalisation,
            network=self.network,
            training=self.training,
            seed=seed,
            steps=self.distillation.outer_steps,
        )

    @property
    def digest(self) -> str:
        """Name the settings."""
        return digest(self.network, self.experts, self.distillation, self.training, self.class_names)


def outsiders(data: Prepared | IngestResult) -> LabelledImages:
    """Return the images of patients that nothing was learned from: validation and test."""
    val, test = data.val, data.test
    return LabelledImages(
        torch.cat([val.images, test.images]),
        torch.cat([val.labels, test.labels]),
        val.class_names,
        val.patient_ids + test.patient_ids,
        val.keys + test.keys,
        val.sites + test.sites,
    )


def audit(run: Run, profile_name: str, *, workers: int = 0, estimate: bool = False) -> dict[str, Any]:
    """Attack the set that this run would export; returns the document, also kept as audit/audit.json.

    Args:
        run: a run whose distillation has finished.
        profile_name: `quick` or `full`.
        workers: processes for the shadow runs; 0: one for each core.
        estimate: do one shadow run, say how long the rest takes, and stop there.

    Raises:
        ConfigError: unknown profile, or a stage that has not finished.
    """
    profile = profile_named(profile_name)
    method = delivered(run.config)
    basis = run.require(f"distill/{method}", f"medidistill distill --method {method}")
    data = run.data()
    workers = workers or len(os.sched_getaffinity(0))
    inputs = digest("audit", basis, vars(profile), run.config.seed)
    if run.finished("audit", inputs, audit_file(run)):
        kept: dict[str, Any] = read_json(audit_file(run))
        return kept
    run.touch("audit", inputs, train=data.train, val=data.val, test=data.test)
    folder = private_folder(run.folder.audit)
    procedure = _procedure(run, profile, data, private_folder(folder / "work"))
    release = DistilledSet.load(run.folder.distill(method) / "distilled.safetensors")

    def on_estimate(seconds: float) -> None:
        say(run.progress, f"audit {profile.name}: the other shadow runs take about {seconds / 60:.1f} min")
        if estimate:
            raise _EnoughError(seconds)

    with run.bar(f"audit {profile.name}", profile.shadows, "shadow") as bar, run.stop.deferred():

        def on_run(done: int, total: int) -> None:
            bar.at(done, total)
            run.stop.check()

        try:
            document = attack(
                release,
                data.train,
                outsiders(data),
                procedure,
                profile,
                procedure=procedure.digest,
                folder=folder / "shadows",
                seed=run.config.seed,
                workers=workers,
                on_run=on_run,
                on_part=lambda name: say(run.progress, f"audit: {name}"),
                on_estimate=on_estimate,
            )
        except _EnoughError as enough:
            return {"estimate_seconds": enough.seconds, "shadows": profile.shadows, "workers": workers}
    document["patient_units"] = run.patient_units.sentences()
    write_json(audit_file(run), document, mode=0o600)
    write_text(folder / "privacy-report.md", officer_markdown(document), mode=0o600)
    write_text(folder / "privacy-report.html", officer_html(document), mode=0o600)
    written = [audit_file(run), *folder.glob("privacy-report.*")]
    run.note("audit", inputs, written, profile=profile.name, set=document["set"], seconds=document["seconds"])
    return document


def _procedure(run: Run, profile: AuditProfile, data: Prepared, scratch: Path) -> Procedure:
    config, method = run.config, delivered(run.config)
    pool = config.experts_by(method)
    count = min(pool.count, profile.experts or pool.count)
    plain = dataclasses.replace(method_config(config, method), validate_every=0, compile="off")
    # the noise of the run, not of fewer experts; a release of statistics has its own
    if plain.objective == "statistics":
        dp = dataclasses.replace(pool.dp, noise_multiplier=release_noise(pool.dp))
        noised = dataclasses.replace(pool, dp=dp)
    else:
        noised = dataclasses.replace(with_noise(pool), count=count)
    return Procedure(
        config.network,
        noised,
        plain,
        config.evaluate.small,
        data.train.class_names,
        data.normalisation,
        scratch,
    )
