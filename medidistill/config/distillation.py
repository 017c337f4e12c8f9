"""Distillation and its importance weights."""

from __future__ import annotations

from dataclasses import dataclass, replace

from medidistill.config.fields import Validated, choice, flag, number, part, text
from medidistill.config.training import AugmentConfig
from medidistill.errors import ConfigError

__all__ = ["DistillConfig", "ImportanceConfig"]


@dataclass(frozen=True)
class ImportanceConfig(Validated):
    """Weights W on network parameters in the matching loss: learned, w = exp(s), or a mask or control instead."""

    enabled: bool = flag(True, "use W (IADD where it is learned); false keeps w = 1, which is MTT")
    kind: str = choice(
        "learned",
        "learned: w = exp(s) (IADD); prune: 0 for the hardest parameters of each step, 1 otherwise (PP); progressive: "
        "0 until a parameter has been matched once (HoP-TM's mask); random: drawn once and frozen, a control",
        "learned",
        "prune",
        "progressive",
        "random",
    )
    granularity: str = choice("element", "one weight for each parameter, or one for each tensor", "element", "tensor")
    constraint: str = choice(
        "unit_mean_square",
        "unit_mean_square: hold mean(w^2) = 1 within [w_min, w_max]; balanced: that, and every group ends with an "
        "equal share of the loss; entropic: that, with w^2 regularised towards uniform; none: unconstrained",
        "unit_mean_square",
        "balanced",
        "entropic",
        "none",
    )
    direction: str = choice(
        "ascend",
        "ascend: raise the weight of parameters that are hard to match; descend: lower it",
        "ascend",
        "descend",
    )
    start: str = choice(
        "ones",
        "learned: initial W. ones: uniform; fisher: w^2 proportional to the experts' Fisher information on real "
        "images, so that parameters that determine predictions weigh most (reads real training images once)",
        "ones",
        "fisher",
    )
    lr: float = number(0.01, "learning rate of s; 0: W keeps its initial values", 0.0, 1e6)
    w_min: float = number(0.1, "smallest weight", 1e-6, 1.0)
    w_max: float = number(10.0, "largest weight", 1.0, 1e6)
    tau: float = number(
        1.0, "entropic: strength of the entropic regularisation; w^2 converges to exp(-P d^2 / (tau Z))", 1e-6, 1e6
    )
    prune_by: str = choice(
        "residual",
        "prune: which parameters are pruned, those of largest residual d^2 or of smallest movement",
        "residual",
        "movement",
    )
    prune_share: float = number(0.1, "prune: share of the moving parameters that is pruned", 0.0, 0.99)
    threshold: float = number(
        0.1, "progressive: d^2 below this many mean squared movements counts as matched, initially", 1e-9, 1e9
    )
    growth: float = number(2.0, "progressive: the threshold is multiplied by this ...", 1.0, 1e3)
    growth_every: int = number(20, "progressive: ... each time after so many outer steps", 1, 1_000_000)
    spread: float = number(0.5, "random: standard deviation of log w before it is rescaled to mean(w^2) = 1", 0.0, 10.0)
    keep_scale: bool = flag(True, "divide the loss for images and alpha by sum(w^2 d^2) / sum(d^2), detached")

    @property
    def reads_real(self) -> bool:
        """Whether W is initialised from real images."""
        return self.enabled and self.kind == "learned" and self.start == "fisher"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.constraint == "balanced" and self.direction == "ascend":
            raise ConfigError(
                "ImportanceConfig.constraint='balanced' with direction='ascend': ascent moves away from "
                "equal shares; use direction='descend'"
            )
        if self.constraint == "entropic" and 4 * self.lr * self.tau > 1:
            raise ConfigError(
                f"ImportanceConfig.tau={self.tau:g} with lr={self.lr:g}: lr * tau must be <= 0.25, or the steps of W "
                "overshoot; lower lr"
            )
        if self.constraint == "none" and self.direction == "ascend" and self.lr > 0 and self.enabled:
            raise ConfigError(
                "ImportanceConfig.constraint='none' with direction='ascend': W grows without bound; "
                "use direction='descend' or constraint='unit_mean_square'"
            )


@dataclass(frozen=True)
class DistillConfig(Validated):
    """One distillation: objective, parameterization, expert segments and optimisation."""

    objective: str = choice(
        "trajectory",
        "loss of an outer step: trajectory, the distance to an expert's later snapshot (MTT, IADD); "
        "student_loss, the real images' loss of a student trained on the set (needs no expert, reads real images); "
        "gradient, the distance of real and distilled gradients at an expert's snapshot (DC, DSA; reads real images); "
        "distribution, the distance of mean features of random networks (DM; reads real images); "
        "snapshots, the distance of mean features at the experts' snapshots (reads real images once a snapshot); "
        "kernel, the real images' loss of a ridge regression on features of networks trained on the set (reads real "
        "images); "
        "statistics, the distance to moments of public features, released once with noise (dp_stats; no expert)",
        "trajectory",
        "student_loss",
        "gradient",
        "distribution",
        "snapshots",
        "kernel",
        "statistics",
    )
    ipc: int = number(
        5, "stored images per class; `factor` and `bits` make more training images of their bytes", 1, 100_000
    )
    factor: int = number(
        1,
        "f: the bytes of one image hold f x f small ones, each decoded to a training image of full size; must divide "
        "the side",
        1,
        64,
    )
    decoder: str = choice("bilinear", "how a small stored image becomes a training image", "bilinear", "dct")
    init: str = choice(
        "noise", "initial images; `real` copies patients' images and is recorded in the set", "noise", "real"
    )
    start_from: str = text(
        "",
        "warm start: images of another method's set, for example snapshots, which must be compared too; "
        "empty: as `init`",
    )
    coarse: int = number(
        1,
        "distil first at an image side of 1 / coarse, with experts trained at that side, then upsample and refine; "
        "1: at full side only",
        1,
        8,
    )
    coarse_steps: int = number(
        0, "coarse: outer steps at the small side before the `outer_steps` at full side; 0: as many", 0, 10_000_000
    )
    noise: float = number(0.2, "standard deviation of the initial noise, in normalised units", 1e-3, 10.0)
    outer_steps: int = number(200, "updates of images, labels, alpha and W", 1, 10_000_000)
    inner_steps: int = number(10, "student steps J in each outer step", 1, 10_000)
    expert_epochs: int = number(2, "expert epochs K between start and target", 1, 10_000)
    min_start: int = number(0, "first start epoch", 0, 10_000)
    max_start: int = number(8, "start epochs are drawn below this number", 1, 10_000)
    start_growth: float = number(
        0.0, "share of the outer steps over which the largest start epoch grows from min_start to max_start", 0.0, 1.0
    )
    first_max_start: int = number(0, "start_growth: begin with starts below this one; 0: min_start + 1", 0, 10_000)
    batch_size: int = number(0, "distilled images in an inner step; 0: all", 0, 100_000)
    warmup_steps: int = number(60, "student_loss: at most this many student steps before the J", 0, 10_000)
    real_batch: int = number(
        126, "real images in the loss of an objective that reads them, equally many of each class", 1, 100_000
    )
    max_snapshot: int = number(
        16, "snapshots: features are matched after 0, 1, 2, 4, 8, ... epochs of an expert, up to this one", 0, 10_000
    )
    class_weight: float = number(
        1.0, "snapshots: weight of the cross-entropy of the images under later snapshots", 0.0, 1e3
    )
    spread_weight: float = number(
        0.0, "snapshots: weight of the distance of the features' standard deviations within a class", 0.0, 1e3
    )
    match_batch: int = number(0, "snapshots: images of each class in an outer step; 0: all", 0, 100_000)
    pool_networks: int = number(10, "kernel: networks trained on the set at the same time", 1, 1000)
    pool_steps: int = number(100, "kernel: steps after which a network of the pool is re-initialised", 1, 100_000)
    ridge: float = number(1e-6, "kernel: ridge, as a share of the mean eigenvalue", 1e-12, 1e3)
    kernel_loss: str = choice("squared", "kernel: loss of the regression on real images", "squared", "softmax")
    segments: int = number(1, "expert segments averaged in one outer step", 1, 1000)
    image_optimizer: str = choice("adam", "optimiser of the images", "adam", "sgd")
    basis: str = choice(
        "cosine",
        "parameterization of the images: cosine coefficients scaled to the spectrum of natural images, or pixels",
        "cosine",
        "pixels",
    )
    spectrum: float = number(1.0, "cosine: the amplitude falls as 1 / frequency to this power", 0.0, 4.0)
    bits: int = number(
        0,
        "bits of a stored value: 32, 8, 4 or 2; 0: 8 where images are packed (`factor` above 1), else 32. The bytes of "
        "an image hold two in 4 bits and four in 2 bits, which are distilled as they are stored, rounded",
        0,
        32,
    )
    lr_images: float = number(0.05, "learning rate of the images", 0.0, 1e6)
    lr_schedule: str = choice(
        "constant", "rate of the images over the outer steps: constant, or cosine to 0", "constant", "cosine"
    )
    alpha: float = number(0.03, "initial inner learning rate", 1e-6, 5.0)
    lr_alpha: float = number(0.01, "learning rate of log alpha (Adam)", 0.0, 100.0)
    soft_labels: bool = flag(False, "learn soft labels too")
    label_smoothing: float = number(0.1, "label smoothing of the initial soft labels", 1e-6, 0.99)
    label_init: str = choice(
        "smoothing",
        "soft labels start near one-hot, or at an expert's outputs for the real images of the start (noise start: the "
        "mean output for each class); `expert` reads real images",
        "smoothing",
        "expert",
    )
    expert_labels: bool = flag(
        False,
        "label the finished images with the experts' predictions, corrected for the class frequencies of their "
        "training images; learned labels then serve the distillation alone",
    )
    lr_labels: float = number(0.02, "learning rate of the label logits (Adam)", 0.0, 1e6)
    ema: float = number(
        0.0,
        "export an exponential moving average of the images with this decay (shorter at first); 0: the images",
        0.0,
        0.999999,
    )
    importance: ImportanceConfig = part(ImportanceConfig, "self-adaptive importance weights W")
    augment: AugmentConfig = part(AugmentConfig, "siamese augmentation in the inner loop")
    gradient: str = choice(
        "adjoint", "adjoint: exact, memory independent of J; stored: plain unrolling", "adjoint", "stored"
    )
    precision: str = choice(
        "float32",
        "bfloat16: the adjoint's convolutions, but for those that decide a ReLU, in bfloat16; faster on processors "
        "with AVX512-BF16 or AMX, off by about half a per cent (networks with instance norm)",
        "float32",
        "bfloat16",
    )
    keep_maps: float = number(
        512.0,
        "MB of activations that an inner loop may keep for its backward pass, which then takes a fifth less time; "
        "loops that need more keep none",
        0.0,
        1e6,
    )
    checkpoint_every: int = number(10, "outer steps between checkpoints", 1, 1_000_000)
    validate_every: int = number(20, "outer steps between validations; 0: never, keep the last step", 0, 1_000_000)
    compile: str = choice(
        "auto", "torch.compile of the inner step; auto: where the run is long enough to repay it", "auto", "on", "off"
    )
    max_rollbacks: int = number(5, "roll-backs to the last good step before giving up", 0, 1000)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min_start >= self.max_start:
            raise ConfigError(f"DistillConfig.min_start={self.min_start}: must be < max_start={self.max_start}")
        if self.first_max_start and not self.min_start < self.first_max_start <= self.max_start:
            raise ConfigError(
                f"DistillConfig.first_max_start={self.first_max_start}: must be 0 or in "
                f"[{self.min_start + 1}, {self.max_start}]"
            )
        if self.bits not in (0, 2, 4, 8, 32):
            raise ConfigError(f"DistillConfig.bits={self.bits}: must be 0, 2, 4, 8 or 32")
        if self.expert_labels and self.objective in ("trajectory", "student_loss", "statistics"):
            raise ConfigError(
                f"DistillConfig.expert_labels=True with objective={self.objective!r}: must be snapshots, kernel, "
                "gradient or distribution; a student's steps are matched with the labels that it was trained on"
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
    def few_levels(self) -> bool:
        """Whether a stored value has so few bits that the objective must see it rounded."""
        return self.stored_bits < 8

    @property
    def packed(self) -> bool:
        """Whether what is stored differs from the training images that it decodes to."""
        return self.factor > 1 or self.few_levels

    @property
    def learns_alpha(self) -> bool:
        """Whether the inner learning rate alpha is learned: matching at fixed networks has none."""
        return self.objective not in ("snapshots", "kernel")

    def at_coarse_side(self) -> DistillConfig:
        """Return the settings of the distillation at side / `coarse`: as many images, not quantised or selected."""
        factor = self.factor // self.coarse if self.factor % self.coarse == 0 else 1
        return replace(
            self,
            coarse=1,
            factor=factor,
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
        return self.bits or (8 if self.factor > 1 else 32)

    @property
    def fits_real(self) -> bool:
        """Whether images or labels are fitted to real training images."""
        return self.objective not in ("trajectory", "statistics") or self.label_init == "expert"

    @property
    def reads_real(self) -> bool:
        """Whether the distillation reads real training images other than through experts or noised statistics."""
        return self.init == "real" or self.fits_real or self.importance.reads_real
