"""The procedure of a run as the shadow runs of its audit repeat it: experts and distillation on other images."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from medidistill.config import DistillConfig, ExpertConfig, NetworkConfig, RunConfig, TrainingConfig, digest
from medidistill.distillation import DistillProblem, DistillStatus, at_coarse_side, distill, train_experts
from medidistill.distillation.noised_statistics import noised_statistics
from medidistill.distillation.public_features import features_of
from medidistill.distillation.statistics_images import distil_statistics
from medidistill.distilled_set import DistilledSet, LabelledImages, Normalisation
from medidistill.errors import DivergedError
from medidistill.networks import secret_generator, should_compile
from medidistill.pipeline.comparison.arms import delivery, method_config, training_of
from medidistill.pipeline.prepared import PreparedData
from medidistill.pipeline.released_statistics import release_noise
from medidistill.pipeline.stages.experts import with_noise
from medidistill.pipeline.work import RunContext
from medidistill.privacy import AuditProfile

if TYPE_CHECKING:
    from medidistill.ingest import IngestResult

__all__ = ["Procedure", "non_members", "procedure_of", "until_chosen"]


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
        """Train experts on normalised images and distill them. Raises `DivergedError`."""
        if not self.distillation.matches_experts:
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
        mode: Literal["on", "off"] = "on" if self.compile else "off"
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
            DistillProblem(
                files,
                class_names=self.class_names,
                normalisation=self.normalisation,
                training=self.training,
                seed=seed,
                real=(images, labels) if config.requires_real else None,
                patients=patients,
                expert_training=experts,
                start=start,
            ),
            dataclasses.replace(config, compile=mode),
        )
        if result.status is not DistillStatus.COMPLETED:
            raise DivergedError(f"audit: a shadow run ended as {result.status}; lower distill.lr_images")
        return result.distilled

    @property
    def _epochs(self) -> int:
        """Epochs of an expert that the distillation reads; those after them change nothing and are not trained."""
        plan = self.distillation
        ends = plan.target == "line" and not plan.line_epochs
        if plan.objective != "trajectory" or plan.label_init == "expert" or ends or plan.matches_features_too:
            return self.experts.epochs
        ahead = plan.line_epochs if plan.target == "line" else plan.expert_epochs
        return min(self.experts.epochs, plan.max_start - 1 + ahead)

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


def non_members(data: PreparedData | IngestResult) -> LabelledImages:
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


def procedure_of(
    run: RunContext, profile: AuditProfile, data: PreparedData, scratch: Path, workers: int, method: str = ""
) -> Procedure:
    """Return the procedure of a run.

    Args:
        run: the run.
        profile: of the audit; `quick` has fewer experts.
        data: the run's images.
        scratch: private folder for experts.
        workers: processes that share the shadow runs.
        method: whose set is made; empty: the one that is delivered.
    """
    config = run.config
    method = method or delivery(config, run.folder).method
    pool = config.experts_by(method)
    count = min(pool.count, profile.experts or pool.count)
    plain = dataclasses.replace(method_config(config, method), validate_every=0, compile="off")
    # the noise of the run, not of fewer experts; a release of statistics has its own
    if not plain.matches_experts:
        dp = dataclasses.replace(pool.dp, noise_multiplier=release_noise(pool.dp))
        noised = dataclasses.replace(pool, dp=dp)
    else:
        noised = dataclasses.replace(with_noise(pool), count=count)
        plain = until_chosen(plain, int(run.record.stages[f"distill/{method}"]["best_step"]))
    return Procedure(
        config.network,
        noised,
        plain,
        training_of(config, method),
        data.train.class_names,
        data.normalisation,
        scratch,
        procedure_of(run, profile, data, scratch, workers, plain.start_from) if plain.start_from else None,
        compile=_compilation_pays_off(config, plain, profile, workers),
    )


def until_chosen(config: DistillConfig, best_step: int) -> DistillConfig:
    """Return `config` with the outer steps up to `best_step`, where no schedule is laid out over all of them.

    The steps at the coarse side, of which none is chosen, stay as many as they were.
    """
    if config.coarse > 1:
        config = dataclasses.replace(config, coarse_steps=config.coarse_steps or config.outer_steps)
    if not config.steps_may_grow:
        return config
    return dataclasses.replace(config, outer_steps=min(config.outer_steps, max(1, best_step)))


def _compilation_pays_off(config: RunConfig, plan: DistillConfig, profile: AuditProfile, workers: int) -> bool:
    """Whether the shadow runs of one process together win back what compiling their steps costs."""
    inner = plan.inner_steps if plan.learns_alpha else 1
    batch = plan.batch_size or plan.ipc  # at least
    each = plan.outer_steps * plan.segments * inner * batch * config.network.width
    activations = each * config.ingest.image_size**2 * 4  # a way back costs about three ways out
    return plan.matches_experts and should_compile(config.distill.compile, activations * profile.shadows / workers)
