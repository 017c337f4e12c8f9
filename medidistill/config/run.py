"""A whole run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from medidistill.config.data import IngestConfig
from medidistill.config.distillation import DistillConfig
from medidistill.config.evaluation import EvaluateConfig
from medidistill.config.fields import Help, OneOf, Range, Section, Validated, with_settings
from medidistill.config.methods import METHODS
from medidistill.config.privacy import PrivacyConfig
from medidistill.config.sources import SourceConfig, combine
from medidistill.config.training import ExpertConfig, NetworkConfig
from medidistill.errors import ConfigError, did_you_mean
from medidistill.jsontypes import ReadOnlyJsonObject  # settings of methods, checked by `methods`

__all__ = ["RunConfig"]


@dataclass(frozen=True)
class RunConfig(Validated):
    """A whole run, from files to report."""

    name: Annotated[str, Help("title of the report")] = "medidistill run"
    notice: Annotated[str, Help("a caution shown beside every result, for example a known confounder")] = ""
    seed: Annotated[int, Range(0), Help("seed of every random decision")] = 0
    threads: Annotated[
        int,
        Range(0, 4096),
        Help(
            "CPU cores used at once: threads of torch, or processes of one thread that read images, train or audit; "
            "0: as many as torch and each stage choose"
        ),
    ] = 0
    device: Annotated[
        Literal["cpu", "cuda", "auto"], Help("where networks are trained; auto: a GPU where there is one")
    ] = "cpu"
    deterministic: Annotated[
        bool,
        Help("use only bit-for-bit reproducible algorithms: slower on a GPU, and some augmentation is refused there"),
    ] = False
    memory_check: Annotated[bool, Help("refuse at once a run that does not fit into memory")] = True
    sources: Annotated[
        tuple[SourceConfig, ...], Help("where the images come from, and their licences; named in the card")
    ] = ()
    ingest: Annotated[IngestConfig, Section("reading, splitting, normalising")] = IngestConfig()
    network: Annotated[NetworkConfig, Section("network of experts and students")] = NetworkConfig()
    experts: Annotated[ExpertConfig, Section("expert trajectories")] = ExpertConfig()
    distill: Annotated[DistillConfig, Section("distillation")] = DistillConfig()
    deliver: Annotated[
        str,
        OneOf("auto", *METHODS),
        Help(
            "method whose set is audited and exported; auto: the one whose set trains the best networks on validation, "
            "where differential privacy is off"
        ),
    ] = "auto"
    methods: Annotated[
        Mapping[str, ReadOnlyJsonObject],
        Section("settings of `distill` that one method has of its own: {bptt: {lr_images: 0.02}}"),
    ] = field(default_factory=dict, hash=False)
    evaluate: Annotated[EvaluateConfig, Section("comparison of diagnostic models")] = EvaluateConfig()
    privacy: Annotated[PrivacyConfig, Section("audit, policy and recipient of a release")] = PrivacyConfig()

    def __post_init__(self) -> None:
        super().__post_init__()
        combine(self.sources)  # licences that do not go together are found before hours of work, not after
        for method in self.methods:
            if method not in METHODS:
                raise ConfigError(
                    f"RunConfig.methods: unknown method {method!r}{did_you_mean(method, METHODS)}; "
                    f"known: {', '.join(METHODS)}"
                )
            if "ipc" in self.methods[method]:
                raise ConfigError(
                    f"RunConfig.methods.{method}.ipc={self.methods[method]['ipc']!r}: must not be set for one method "
                    "alone: real images of the same number are its controls, and the verdict counts them; leave it out "
                    "and set distill.ipc for all methods"
                )
            self.distill_by(method)
        if self.deliver != "auto" and self.deliver not in self.evaluate.arms:
            raise ConfigError(
                f"RunConfig.deliver={self.deliver!r}: is not compared; add it to evaluate.arms, or use deliver=auto"
            )
        self._check_compared()
        self.check_private(self.evaluate.arms)
        last = self.distill.max_start - 1 + self.distill.expert_epochs
        if last > self.experts.epochs:
            raise ConfigError(
                f"distill.max_start={self.distill.max_start} with expert_epochs={self.distill.expert_epochs} needs "
                f"snapshot {last}, experts.epochs={self.experts.epochs} ends before; raise epochs or lower max_start"
            )

    def _check_compared(self) -> None:
        """Refuse a reference, or pictures, of what is not compared; bundles get their names when they are read."""
        rules = self.evaluate
        known = [*rules.arms, *(["dp_full"] if self.experts.dp.enabled else [])]
        pictured = rules.saliency.arms if rules.saliency.cases else ()
        asked = [("clinical.reference", rules.clinical.reference), *(("saliency.arms", arm) for arm in pictured)]
        for name, arm in asked:
            if arm and arm not in known and not (rules.bundles and arm.startswith("bundle-")):
                raise ConfigError(
                    f"RunConfig.evaluate.{name}={arm!r}: is not compared; must be one of {', '.join(known)}"
                    f"{did_you_mean(arm, known)}; add it to evaluate.arms, or leave the setting empty"
                )
        if len(set(pictured)) == 1:
            raise ConfigError(
                f"RunConfig.evaluate.saliency.arms={list(pictured)!r}: must be two arms or more, to see side by side; "
                "add one, leave the setting empty, or set evaluate.saliency.cases to 0"
            )

    def check_private(self, arms: Sequence[str]) -> None:
        """Refuse settings that would void a guarantee or lack one, before hours of work.

        Args:
            arms: what is compared, or the method that is to be made; what is no method is passed over.

        Raises:
            ConfigError: with the setting.
        """
        for method in (METHODS[arm] for arm in arms if arm in METHODS):
            if method.needs_dp and not self.experts.dp.enabled:
                raise ConfigError(
                    f"evaluate.arms: {method.name!r} without experts.dp.enabled=true has no epsilon; set it and "
                    "experts.dp.epsilon"
                )
            if self.experts.dp.enabled and self.distill_by(method.name).continues_experts:
                raise ConfigError(
                    f"evaluate.arms: {method.name!r} with experts.dp trains networks on from the experts' snapshots "
                    "without the privacy mechanism; use distill.target='expert' and another importance.kind than "
                    "inverse_variance"
                )
        if self.experts.dp.enabled and self.ingest.normalisation == "zca":
            raise ConfigError(
                "ingest.normalisation='zca' with experts.dp: a whitening fitted on the patients has no privacy "
                "mechanism, and no guarantee could be printed; use per_image or fixed"
            )
        if self.ingest.normalisation != "per_image":
            released = [arm for arm in arms if arm in METHODS and not self.distill_by(arm).matches_experts]
            if released:
                raise ConfigError(
                    f"ingest.normalisation={self.ingest.normalisation!r} with {released[0]}: public features are those "
                    "of images of mean 0 and standard deviation 1, each by itself, and the set is made of such images; "
                    "use ingest.normalisation=per_image"
                )

    def experts_by(self, method: str) -> ExpertConfig:
        """Return how the experts of `method` are trained: the flat ones of some methods take sharpness-aware steps."""
        flat = METHODS[method].flat_experts and self.experts.rho == 0
        return replace(self.experts, rho=self.experts.flat_rho) if flat else self.experts

    def distill_by(self, method: str) -> DistillConfig:
        """Return the settings of one method: `distill`, the method's own changes, and those of `methods`.

        Raises:
            ConfigError: a setting of `methods` that does not exist or is out of range.
        """
        settings = self.distill
        try:
            for changes in (METHODS[method].settings, self.methods.get(method, {})):
                settings = with_settings(settings, changes)
        except ConfigError as error:
            raise ConfigError(f"RunConfig.methods.{method}: {error}") from error
        return settings
