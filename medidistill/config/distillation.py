"""A distillation: what is matched, how the set is stored, and how it is optimised."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from medidistill.config.fields import ADDED_LATER, Formerly, Help, Range, Section, Validated
from medidistill.config.importance import ImportanceConfig
from medidistill.config.training import AugmentConfig, CompileMode
from medidistill.errors import ConfigError

__all__ = ["FIXED_NETWORK_OBJECTIVES", "STORED_PLAINLY", "DistillConfig"]

# one image of full side each, and 0 for 32 bits a value
STORED_PLAINLY = {"factor": 1, "decoder": "bilinear", "bits": 0, "coarse": 1, "start_from": ""}
# match at networks, or statistics, that no student's rate alpha belongs to
FIXED_NETWORK_OBJECTIVES = ("snapshots", "kernel", "gradient", "distribution", "statistics")


@dataclass(frozen=True)
class DistillConfig(Validated):
    """One distillation: objective, parameterization, expert segments and optimisation."""

    objective: Annotated[
        Literal["trajectory", "student_loss", "gradient", "distribution", "snapshots", "kernel", "statistics"],
        Help(
            "loss of an outer step: trajectory, the distance to an expert's later snapshot (MTT, IADD); student_loss, "
            "the real images' loss of a student trained on the set (needs no expert, reads real images); gradient, "
            "the distance of real and distilled gradients at an expert's snapshot (DC, DSA; reads real images); "
            "distribution, the distance of mean features of random networks (DM; reads real images); snapshots, the "
            "distance of mean features at the experts' snapshots (reads real images once a snapshot); kernel, the "
            "real images' loss of a ridge regression on features of networks trained on the set (reads real images); "
            "statistics, the distance to moments of public features, released once with noise (dp_stats; no expert)"
        ),
    ] = "trajectory"
    ipc: Annotated[
        int,
        Range(1, 100_000),
        Help("stored images per class; `factor` and `bits` make more training images of their bytes"),
    ] = 5
    factor: Annotated[
        int,
        Range(1, 64),
        Help(
            "f: the bytes of one image hold f x f small ones, each decoded to a training image of full size; must "
            "divide the side"
        ),
    ] = 1
    decoder: Annotated[
        Literal["bilinear", "dct", "spectral"],
        Help(
            "what the bytes of a small image hold: bilinear and dct, its values, interpolated to full size; spectral, "
            "the full image's DCT amplitudes, more bits for those that hold more"
        ),
    ] = "bilinear"
    init: Annotated[
        Literal["noise", "gaussian", "mixture", "real"],
        Help(
            "initial images: noise; gaussian, draws with the mean of each class and the covariance of all; mixture, "
            "draws with the mean and covariance of groups of alike patients; real, copies of patients' images, which "
            "is recorded in the set"
        ),
    ] = "noise"
    group_patients: Annotated[
        int,
        Range(2, 1_000_000),
        Help("init mixture, gaussian: fewest patients of a group, of a class"),
        ADDED_LATER,
    ] = 32
    start_from: Annotated[
        str,
        Help(
            "warm start: images of another method's set, for example snapshots, which must be compared too; "
            "empty: as `init`"
        ),
    ] = ""
    coarse: Annotated[
        int,
        Range(1, 8),
        Help(
            "distill first at an image side of 1 / coarse, with experts trained at that side, then upsample and "
            "refine; 1: at full side only"
        ),
    ] = 1
    coarse_steps: Annotated[
        int,
        Range(0, 10_000_000),
        Help("coarse: outer steps at the small side before the `outer_steps` at full side; 0: as many"),
    ] = 0
    init_std: Annotated[
        float,
        Range(1e-3, 10.0),
        Formerly("noise"),
        Help("standard deviation of the initial noise, in normalised units"),
    ] = 0.2
    outer_steps: Annotated[
        int, Range(0, 10_000_000), Help("updates of images, labels, alpha and W; 0: the initial images as they are")
    ] = 200
    inner_steps: Annotated[int, Range(1, 10_000), Help("student steps J in each outer step")] = 10
    expert_epochs: Annotated[int, Range(1, 10_000), Help("expert epochs K between start and target")] = 2
    target: Annotated[
        Literal["expert", "mean_continuation", "line"],
        Help(
            "trajectory: what the student's end is compared with. expert: the expert's own snapshot K epochs later; "
            "mean_continuation: the mean of several networks that were trained on from the start on the real images in "
            "other orders, for as long (reads real training images); line: the point of the straight path to a far "
            "snapshot that K epochs of even speed reach"
        ),
        ADDED_LATER,
    ] = "expert"
    continuations: Annotated[
        int, Range(2, 16), Help("mean_continuation, inverse_variance: networks that are trained on"), ADDED_LATER
    ] = 4
    line_epochs: Annotated[
        int,
        Range(0, 10_000),
        Help("line: epochs from the start to the far snapshot, at most to the expert's last; 0: to the last"),
        ADDED_LATER,
    ] = 0
    min_start: Annotated[int, Range(0, 10_000), Help("first start epoch")] = 0
    max_start: Annotated[int, Range(1, 10_000), Help("start epochs are drawn below this number")] = 8
    start_growth: Annotated[
        float,
        Range(0.0, 1.0),
        Help("share of the outer steps over which the largest start epoch grows from min_start to max_start"),
    ] = 0.0
    first_max_start: Annotated[
        int, Range(0, 10_000), Help("start_growth: begin with starts below this one; 0: min_start + 1")
    ] = 0
    batch_size: Annotated[int, Range(0, 100_000), Help("distilled images in an inner step; 0: all")] = 0
    warmup_steps: Annotated[
        int, Range(0, 10_000), Help("student_loss: at most this many student steps before the J")
    ] = 60
    real_batch: Annotated[
        int,
        Range(1, 100_000),
        Help("real images in the loss of an objective that reads them, equally many of each class"),
    ] = 126
    max_snapshot: Annotated[
        int,
        Range(0, 10_000),
        Help("snapshots: features are matched after 0, 1, 2, 4, 8, ... epochs of an expert, up to this one"),
    ] = 16
    class_weight: Annotated[
        float, Range(0.0, 1e3), Help("snapshots: weight of the cross-entropy of the images under later snapshots")
    ] = 1.0
    spread_weight: Annotated[
        float,
        Range(0.0, 1e3),
        Help("snapshots: weight of the distance of the features' standard deviations within a class"),
    ] = 0.0
    snapshot_weight: Annotated[
        float,
        Range(0.0, 1e3),
        Help("trajectory: weight of the loss of snapshots, lowered beside it; 0: trajectories alone"),
        ADDED_LATER,
    ] = 0.0
    feature_weights: Annotated[
        Literal["off", "inverse_variance", "fisher_ratio", "ascend", "descend"],
        Help(
            "snapshots: weights on the features whose class means are matched, within importance.w_min and w_max. "
            "inverse_variance: frozen, high where a feature varies little within a class; fisher_ratio: frozen, high "
            "where it also differs between classes; ascend, descend: learned, towards features that are hard to match "
            "or away from them"
        ),
        ADDED_LATER,
    ] = "off"
    feature_shuffle: Annotated[
        bool, Help("feature_weights: let each weight act on another feature, a control"), ADDED_LATER
    ] = False
    feature_lr: Annotated[float, Range(0.0, 1e3), Help("feature_weights: rate of learned log w"), ADDED_LATER] = 0.1
    feature_floor: Annotated[
        float, Range(1e-9, 1e9), Help("feature_weights: added to variances, in units of their mean"), ADDED_LATER
    ] = 0.1
    match_batch: Annotated[int, Range(0, 100_000), Help("snapshots: images of each class in an outer step; 0: all")] = 0
    pool_networks: Annotated[int, Range(1, 1000), Help("kernel: networks trained on the set at the same time")] = 10
    pool_steps: Annotated[
        int, Range(1, 100_000), Help("kernel: steps after which a network of the pool is re-initialised")
    ] = 100
    ridge: Annotated[float, Range(1e-12, 1e3), Help("kernel: ridge, as a share of the mean eigenvalue")] = 1e-6
    kernel_loss: Annotated[Literal["squared", "softmax"], Help("kernel: loss of the regression on real images")] = (
        "squared"
    )
    segments: Annotated[int, Range(1, 1000), Help("expert segments averaged in one outer step")] = 1
    image_optimizer: Annotated[Literal["adam", "sgd"], Help("optimiser of the images")] = "adam"
    basis: Annotated[
        Literal["cosine", "pixels"],
        Help("parameterization of the images: cosine coefficients scaled to the spectrum of natural images, or pixels"),
    ] = "cosine"
    spectrum: Annotated[float, Range(0.0, 4.0), Help("cosine: the amplitude falls as 1 / frequency to this power")] = (
        1.0
    )
    bits: Annotated[
        Literal[0, 2, 4, 8, 32],
        Help(
            "bits of a stored value; 0: 8 where images are packed (`factor` above 1), else 32. The bytes of an image "
            "hold two in 4 bits and four in 2 bits, which are distilled as they are stored, rounded"
        ),
    ] = 0
    lr_images: Annotated[float, Range(0.0, 1e6), Help("learning rate of the images")] = 0.05
    lr_schedule: Annotated[
        Literal["constant", "cosine"], Help("rate of the images over the outer steps: constant, or cosine to 0")
    ] = "constant"
    alpha: Annotated[float, Range(1e-6, 5.0), Help("initial inner learning rate")] = 0.03
    lr_alpha: Annotated[float, Range(0.0, 100.0), Help("learning rate of log alpha (Adam)")] = 0.01
    soft_labels: Annotated[bool, Help("learn soft labels too")] = False
    label_smoothing: Annotated[float, Range(1e-6, 0.99), Help("label smoothing of the initial soft labels")] = 0.1
    label_init: Annotated[
        Literal["smoothing", "expert"],
        Help(
            "soft labels start near one-hot, or at an expert's outputs for the real images of the start (noise start: "
            "the mean output for each class); `expert` reads real images"
        ),
    ] = "smoothing"
    expert_labels: Annotated[
        bool,
        Help(
            "label the finished images with the experts' predictions, corrected for the class frequencies of their "
            "training images; learned labels then serve the distillation alone"
        ),
    ] = False
    lr_labels: Annotated[float, Range(0.0, 1e6), Help("learning rate of the label logits (Adam)")] = 0.02
    ema: Annotated[
        float,
        Range(0.0, 0.999999),
        Help("export an exponential moving average of the images with this decay (shorter at first); 0: the images"),
    ] = 0.0
    importance: Annotated[ImportanceConfig, Section("self-adaptive importance weights W")] = ImportanceConfig()
    augment: Annotated[AugmentConfig, Section("siamese augmentation in the inner loop")] = AugmentConfig()
    gradient: Annotated[
        Literal["adjoint", "stored"], Help("adjoint: exact, memory independent of J; stored: plain unrolling")
    ] = "adjoint"
    precision: Annotated[
        Literal["float32", "bfloat16"],
        Help(
            "bfloat16: convolutions of backward passes, but for those that decide a ReLU, in bfloat16; faster on "
            "processors with AVX512-BF16 or AMX, off by about half a per cent (networks with instance norm)"
        ),
    ] = "float32"
    activation_cache_mb: Annotated[
        float,
        Formerly("keep_maps"),
        Range(0.0, 1e6),
        Help(
            "MB of activations that an inner loop may keep for its backward pass, which then takes a fifth less time; "
            "loops that need more keep none"
        ),
    ] = 512.0
    checkpoint_every: Annotated[int, Range(1, 1_000_000), Help("outer steps between checkpoints")] = 10
    validate_every: Annotated[
        int, Range(0, 1_000_000), Help("outer steps between validations; 0: never, keep the last step")
    ] = 20
    compile: Annotated[
        CompileMode,
        Help("torch.compile of the inner step; auto: where the run is long enough to repay it"),
    ] = "auto"
    max_rollbacks: Annotated[int, Range(0, 1000), Help("roll-backs to the last good step before giving up")] = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min_start >= self.max_start:
            raise ConfigError(f"DistillConfig.min_start={self.min_start}: must be < max_start={self.max_start}")
        if self.first_max_start and not self.min_start < self.first_max_start <= self.max_start:
            raise ConfigError(
                f"DistillConfig.first_max_start={self.first_max_start}: must be 0 or in "
                f"[{self.min_start + 1}, {self.max_start}]"
            )
        if self.expert_labels and self.objective in ("trajectory", "student_loss", "statistics"):
            raise ConfigError(
                f"DistillConfig.expert_labels=True with objective={self.objective!r}: must be snapshots, kernel, "
                "gradient or distribution; a student's steps are matched with the labels that it was trained on"
            )
        if self.decoder == "spectral" and self.bits == 32:
            raise ConfigError(
                "DistillConfig.bits=32 with decoder='spectral': must be 8, 4 or 2; amplitudes are always rounded"
            )
        for name, plain in STORED_PLAINLY.items() if self.objective == "statistics" else ():
            found = getattr(self, name)
            if found != plain and (name, found) != ("bits", 32):
                raise ConfigError(
                    f"DistillConfig.{name}={found!r} with objective='statistics': must be {plain!r}; images that match "
                    "released statistics are stored as they are, in 32 bits a value"
                )
        if 0 < self.line_epochs < self.expert_epochs:
            raise ConfigError(
                f"DistillConfig.line_epochs={self.line_epochs}: must be 0 or >= expert_epochs={self.expert_epochs}"
            )
        if self.feature_shuffle and self.feature_weights == "off":
            raise ConfigError(
                "DistillConfig.feature_shuffle=True with feature_weights='off': there are no weights to shuffle; set "
                "feature_weights"
            )
        if self.label_init == "expert" and not self.soft_labels:
            raise ConfigError("DistillConfig.label_init='expert': hard labels have no start; use soft_labels=true")

    @property
    def images_per_class(self) -> int:
        """Training images of each class that the stored ones decode to: as many as fit the bytes of `ipc` images.

        An image of full size counts 8 bits a value, or 32 where `bits` is 32; half the bits hold twice the images.
        """
        return self.ipc * self.factor**2 * (8 // self.stored_bits if self.few_levels else 1)

    @property
    def bits_per_class(self) -> int:
        """Bits of the stored images of a class, in values of a training image: side^2 times as many are shipped."""
        return self.images_per_class * self.stored_bits // self.factor**2

    @property
    def few_levels(self) -> bool:
        """Whether a stored value has so few bits that the objective must see it rounded."""
        return self.stored_bits < 8 or self.decoder == "spectral"

    @property
    def packed(self) -> bool:
        """Whether what is stored differs from the training images that it decodes to."""
        return self.factor > 1 or self.few_levels

    @property
    def learns_alpha(self) -> bool:
        """Whether the inner learning rate alpha is learned: matching at fixed networks has none."""
        return self.objective not in FIXED_NETWORK_OBJECTIVES

    @property
    def steps_may_grow(self) -> bool:
        """Whether more `outer_steps` begin with the same steps: no schedule is laid out over all of them."""
        laid_out = self.lr_schedule != "constant" or self.start_growth > 0
        return not laid_out and (self.coarse == 1 or self.coarse_steps > 0)

    def at_coarse_side(self) -> DistillConfig:
        """Return the settings of the distillation at side / `coarse`: as many images, not quantised or selected."""
        factor = self.factor // self.coarse if self.factor % self.coarse == 0 else 1
        if self.decoder == "spectral":  # its images have full side, whatever their bytes
            factor = 1
        return replace(
            self,
            coarse=1,
            factor=factor,
            decoder="bilinear" if self.decoder == "spectral" else self.decoder,
            ipc=self.images_per_class // factor**2,
            outer_steps=self.coarse_steps or self.outer_steps,
            bits=32,
            validate_every=0,
            expert_labels=False,
        )

    @property
    def matches_experts(self) -> bool:
        """Whether experts are trained for the images; they are not where statistics are released instead."""
        return self.objective != "statistics"

    @property
    def stored_bits(self) -> int:
        """Bits of a stored value."""
        return self.bits or (8 if self.factor > 1 or self.decoder == "spectral" else 32)

    @property
    def optimizes_on_real(self) -> bool:
        """Whether images, labels or W are fitted to real training images; not where features are matched beside."""
        fitted = self.importance.descends_real_loss or self.label_init == "expert"
        return self.objective not in ("trajectory", "statistics") or fitted

    @property
    def matches_features_too(self) -> bool:
        """Whether features of real training images are matched beside trajectories."""
        return self.objective == "trajectory" and self.snapshot_weight > 0

    @property
    def continues_experts(self) -> bool:
        """Whether networks are trained on from the experts' snapshots on real training images."""
        matched = self.objective == "trajectory"
        return matched and (self.target == "mean_continuation" or self.importance.continues_experts)

    @property
    def requires_real(self) -> bool:
        """Whether the distillation reads real training images other than through experts or noised statistics."""
        by_objective = self.optimizes_on_real or self.matches_features_too
        return self.init != "noise" or by_objective or self.importance.requires_real or self.continues_experts
