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

from medidistill.config import DistillConfig, ExpertConfig, NetworkConfig, RunConfig, TrainingConfig, digest
from medidistill.distillation import at_coarse_side, distill, train_experts
from medidistill.distillation.noised_statistics import noised_statistics
from medidistill.distillation.public_features import features_of
from medidistill.distillation.statistics_images import distil_statistics
from medidistill.distilled_set import DistilledSet, LabelledImages, Normalisation
from medidistill.errors import DivergedError
from medidistill.files import read_json, write_json, write_text
from medidistill.networks import secret_generator, should_compile
from medidistill.pipeline.arms import delivery, method_config, training_of
from medidistill.pipeline.prepared import Prepared, private_folder
from medidistill.pipeline.progress import say
from medidistill.pipeline.release_check import check_after_ingest
from medidistill.pipeline.released_statistics import release_noise
from medidistill.pipeline.stages import with_noise
from medidistill.pipeline.work import Run
from medidistill.privacy import AuditProfile, profile_named
from medidistill.privacy import audit as attack
from medidistill.privacy.dpo_report import dpo_report_html, dpo_report_markdown

if TYPE_CHECKING:
    from medidistill.ingest import IngestResult

__all__ = ["Procedure", "audit", "audit_file", "outsiders", "until_chosen"]


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

    The outer step is not picked on validation: a shadow ends at the step that the run's own set was taken from. Pools
    of experts that differ in nothing are trained once for a shadow.

    Args:
        network: of experts and students.
        experts: their settings.
        distillation: the run's.
        training: recipe that the set carries.
        class_names: in label order.
        normalisation: of the run.
        scratch: where experts are kept while a shadow needs them; holds patient data.
        first: the procedure whose set this one begins with (`start_from`), where there is one.
        compile: compile the steps of experts and distillation. Each process compiles once, for all of its shadows, and
            finds on disk what the run or another process compiled before; results are equal but for rounding.
    """

    network: NetworkConfig
    experts: ExpertConfig
    distillation: DistillConfig
    training: TrainingConfig
    class_names: tuple[str, ...]
    normalisation: Normalisation
    scratch: Path
    first: Procedure | None = None
    compile: bool = False

    def __call__(self, images: Tensor, labels: Tensor, patients: Sequence[str], seed: int) -> DistilledSet:
        """Train experts on normalised images and distil them. Raises `DivergedError`."""
        if self.distillation.objective == "statistics":
            return self._released(images, labels, patients, seed)
        with tempfile.TemporaryDirectory(dir=self.scratch) as folder:
            return self._made(images, labels, patients, seed, Path(folder))

    def _made(self, images: Tensor, labels: Tensor, patients: Sequence[str], seed: int, folder: Path) -> DistilledSet:
        start = None if self.first is None else self.first._made(images, labels, patients, seed, folder)
        config = self.distillation
        if config.coarse > 1:
            small = at_coarse_side(images, config.coarse, self.normalisation)
            start = self._distilled(config.at_coarse_side(), small, labels, patients, seed, folder, start)
        return self._distilled(config, images, labels, patients, seed, folder, start)

    def _distilled(
        self,
        config: DistillConfig,
        images: Tensor,
        labels: Tensor,
        patients: Sequence[str],
        seed: int,
        folder: Path,
        start: DistilledSet | None,
    ) -> DistilledSet:
        mode = "on" if self.compile else "off"
        experts = dataclasses.replace(self.experts, epochs=self._epochs)
        files = train_experts(
            images,
            labels,
            num_classes=len(self.class_names),
            network=self.network,
            config=experts,
            seed=seed,
            folder=folder / digest(self.network, experts, images.shape[-1]),
            patients=patients,
            compile=mode,
        )
        result = distill(
            files,
            dataclasses.replace(config, compile=mode),
            class_names=self.class_names,
            normalisation=self.normalisation,
            training=self.training,
            seed=seed,
            real=(images, labels) if config.reads_real else None,
            start=start,
        )
        if result.status != "completed":
            raise DivergedError(f"audit: a shadow run ended as {result.status}; lower distill.lr_images")
        return result.distilled

    @property
    def _epochs(self) -> int:
        """Epochs of an expert that the distillation reads; those after them change nothing and are not trained."""
        plan = self.distillation
        if plan.objective != "trajectory" or plan.label_init == "expert":
            return self.experts.epochs
        return min(self.experts.epochs, plan.max_start - 1 + plan.expert_epochs)

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
        before = [] if self.first is None else [self.first.digest]
        return digest(self.network, self.experts, self.distillation, self.training, self.class_names, *before)


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
    method = delivery(run.config, run.folder).method
    basis = run.require(f"distill/{method}", f"medidistill distill --method {method}")
    data = run.data()
    workers = workers or len(os.sched_getaffinity(0))
    check = check_after_ingest(run, profile.name)
    for line in check.lines() if not estimate else ():
        say(run.progress, line)
    inputs = digest("audit", basis, vars(profile), run.config.seed)
    if run.finished("audit", inputs, audit_file(run)):
        kept: dict[str, Any] = read_json(audit_file(run))
        return kept
    run.touch("audit", inputs, train=data.train, val=data.val, test=data.test)
    folder = private_folder(run.folder.audit)
    procedure = _procedure(run, profile, data, private_folder(folder / "work"), workers)
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
                compile=procedure.compile,
                on_run=on_run,
                on_part=lambda name: say(run.progress, f"audit: {name}"),
                on_estimate=on_estimate,
            )
        except _EnoughError as enough:
            return {
                "estimate_seconds": enough.seconds,
                "shadows": profile.shadows,
                "workers": workers,
                "release_check": check.lines(),
            }
    document["patient_units"] = run.patient_units.sentences()
    write_json(audit_file(run), document, mode=0o600)
    write_text(folder / "privacy-report.md", dpo_report_markdown(document), mode=0o600)
    write_text(folder / "privacy-report.html", dpo_report_html(document), mode=0o600)
    written = [audit_file(run), *folder.glob("privacy-report.*")]
    run.note("audit", inputs, written, profile=profile.name, set=document["set"], seconds=document["seconds"])
    return document


def _procedure(
    run: Run, profile: AuditProfile, data: Prepared, scratch: Path, workers: int, method: str = ""
) -> Procedure:
    config = run.config
    method = method or delivery(config, run.folder).method
    pool = config.experts_by(method)
    count = min(pool.count, profile.experts or pool.count)
    plain = dataclasses.replace(method_config(config, method), validate_every=0, compile="off")
    if plain.objective != "statistics":
        plain = until_chosen(plain, DistilledSet.load(run.folder.distill(method) / "distilled.safetensors"))
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
        training_of(config, method),
        data.train.class_names,
        data.normalisation,
        scratch,
        _procedure(run, profile, data, scratch, workers, plain.start_from) if plain.start_from else None,
        compile=_compilation_pays_off(config, plain, profile, workers),
    )


def until_chosen(config: DistillConfig, made: DistilledSet) -> DistillConfig:
    """Return `config` with as many outer steps as `made` was taken from, where no schedule is laid out over them."""
    if config.lr_schedule != "constant" or config.start_growth:
        return config
    return dataclasses.replace(config, outer_steps=min(config.outer_steps, max(1, int(made.recipe["outer_step"]))))


def _compilation_pays_off(config: RunConfig, plan: DistillConfig, profile: AuditProfile, workers: int) -> bool:
    """Whether the shadow runs of one process together win back what compiling their steps costs."""
    inner = plan.inner_steps if plan.learns_alpha else 1
    batch = plan.batch_size or plan.ipc  # at least
    each = plan.outer_steps * plan.segments * inner * batch * config.network.width
    activations = each * config.ingest.image_size**2 * 4  # a way back costs about three ways out
    return plan.objective != "statistics" and should_compile(
        config.distill.compile, activations * profile.shadows / workers
    )
