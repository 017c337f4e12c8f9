"""DP-SGD whose unit is the patient: sample patients, average each one's gradients, clip, add noise.

    g = ( sum_{p sampled} clip_C( mean over images and views of p of grad CE ) + sigma C N(0, I) ) / B

Every patient is in a step with probability q, independently (Poisson sampling). q, the expected number B that
divides, sigma, C and the number of steps are public constants: a divisor or a number of steps computed from the data
would reveal how many patients there are. A step that samples no patient adds noise alone. The step is the subsampled
Gaussian mechanism with noise multiplier sigma and sampling rate q for adding or removing one patient.

Example gradients come from `torch.func.vmap`, a few patients at a time, so that a large B needs no more memory.
Sampling, noise and augmentation come from a generator that must be secret: anyone who can reproduce it can subtract the
noise. Not covered: attacks on floating-point noise (Mironov 2012) and on torch's generator, which is not
cryptographic.

Source: Abadi et al. 2016 (arXiv 1607.00133); views: De et al. 2022 (arXiv 2204.13650).
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medidistill.config import AugmentConfig, DPConfig
from medidistill.errors import ConfigError
from medidistill.networks.augment import augment, draw, is_identity
from medidistill.networks.functional import ParameterLayout, loss_function

__all__ = [
    "PatientGradient",
    "check_private",
    "noised_class_counts",
    "patient_numbers",
    "patient_weights",
    "secret_generator",
    "train_private",
]

_PER_SAMPLE_LAYERS = (
    nn.Conv2d,
    nn.Linear,
    nn.ReLU,
    nn.LeakyReLU,
    nn.GELU,
    nn.Tanh,
    nn.AvgPool2d,
    nn.MaxPool2d,
    nn.AdaptiveAvgPool2d,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.InstanceNorm2d,
    nn.Identity,
    nn.Flatten,
)
_CHUNK, _FLOATS = 64, 2**22  # images whose gradients are held at a time, more where they are small enough


def secret_generator() -> torch.Generator:
    """Return a generator seeded by the operating system; its seed is kept nowhere."""
    return torch.Generator().manual_seed(secrets.randbits(63))


def check_private(network: nn.Module, shape: tuple[int, int, int]) -> None:
    """Refuse a network in which one image can change what another one contributes.

    Each module is held to a list of those known to work per sample; modules with buffers (running statistics, also
    without affine parameters) are refused. Then the network is tested: the output for
    one image must not change with its neighbours, nor from call to call.

    Args:
        network: in training mode afterwards.
        shape: (C, H, W) of an image.

    Raises:
        ConfigError: names the module and what to use instead.
    """
    advice = "use network.name=convnet with norm instance, group or none"
    for name, module in network.named_modules():
        what = f"{name or 'the network'} ({type(module).__name__})"
        kept = [key for key, _ in module.named_buffers(recurse=False)]
        if kept or getattr(module, "track_running_stats", False):
            raise ConfigError(f"differential privacy: {what} keeps statistics of the images it saw; {advice}")
        leaf = next(module.children(), None) is None
        if leaf and type(module) not in _PER_SAMPLE_LAYERS and not getattr(module, "row_by_row", False):
            raise ConfigError(
                f"differential privacy: {what} is not known to process each image independently; {advice}"
            )
    network.train()
    generator = torch.Generator().manual_seed(0)
    first, other, third = torch.randn(3, *shape, generator=generator)
    with torch.no_grad():
        outputs = [network(torch.stack([first, x]))[0] for x in (other, third, other)]
    if not all(torch.allclose(outputs[0], one, rtol=1e-4, atol=1e-5) for one in outputs[1:]):
        raise ConfigError(
            f"differential privacy: the output for one image changes with its neighbours or from call to call; {advice}"
        )


class PatientGradient:
    """The noised gradient of one DP-SGD step.

    Args:
        network: checked by `check_private` here.
        images: (N, C, H, W) normalised.
        labels: (N,) int64.
        patients: N identifiers; all images of one patient count once.
        config: clip, noise multiplier, sampling rate, expected patients, views.
        augmentation: of each view.
        generator: secret, see `secret_generator`.

    Raises:
        ConfigError: a network that mixes images, no noise, or identifiers that do not fit.
    """

    def __init__(
        self,
        network: nn.Module,
        images: Tensor,
        labels: Tensor,
        patients: Sequence[str],
        config: DPConfig,
        augmentation: AugmentConfig,
        generator: torch.Generator,
    ) -> None:
        if len(patients) != len(images):
            raise ConfigError(f"{len(images)} images of {len(patients)} patients named: needs one name for each image")
        if not config.noise_multiplier > 0:
            raise ConfigError("experts.dp.noise_multiplier=0: must be > 0; it follows from experts.dp.epsilon")
        _, channels, height, width = images.shape
        check_private(network, (channels, height, width))
        self.images, self.labels, self.config, self.augmentation = images, labels, config, augmentation
        self.generator = generator
        self.patients, self.patient = patients, patient_numbers(patients)
        self.count = len(set(patients))
        loss = loss_function(network)

        def of_one(theta: Tensor, x: Tensor, q: Tensor) -> Tensor:
            return loss(theta, x.unsqueeze(0), q.unsqueeze(0))

        self.gradients = torch.func.vmap(torch.func.grad(of_one), in_dims=(None, 0, 0))

    def __call__(self, theta: Tensor) -> Tensor:
        """Return the noised gradient (P,) at the flat parameters `theta`."""
        config = self.config
        sampled = torch.rand(self.count, generator=self.generator) < config.sampling_rate
        total = self.clipped_sum(theta, torch.nonzero(sampled).flatten())
        noise = torch.randn(theta.shape, generator=self.generator, dtype=theta.dtype).to(theta.device)
        return (total + config.noise_multiplier * config.clip * noise) / config.expected_patients

    def clipped_sum(self, theta: Tensor, chosen: Tensor) -> Tensor:
        """Return the sum over the chosen patients of their clipped mean gradient, without noise."""
        total = torch.zeros_like(theta)
        for people in self._chunks(chosen, max(_CHUNK, _FLOATS // len(theta))):
            rows = torch.nonzero(torch.isin(self.patient, people)).flatten()
            owner = torch.searchsorted(people, self.patient[rows])
            size = torch.bincount(owner, minlength=len(people)) * self.config.views
            means = torch.zeros(len(people), len(theta), dtype=theta.dtype, device=theta.device)
            for _ in range(self.config.views):
                x = self.images[rows]
                if not is_identity(self.augmentation):
                    x = augment(x, self.augmentation, draw(len(x), self.generator).to(x.device))
                means.index_add_(0, owner.to(theta.device), self.gradients(theta.detach(), x, self.labels[rows]))
            means /= size.to(means).unsqueeze(1)
            norms = means.norm(dim=1)
            # a gradient that is not a number would pass any clipping and corrupt the whole sum
            factor = torch.where(norms.isfinite(), (self.config.clip / norms.clamp_min(1e-12)).clamp_max(1.0), 0.0)
            total += factor @ torch.nan_to_num(means, 0.0, 0.0, 0.0)
        return total

    def _chunks(self, chosen: Tensor, images: int) -> list[Tensor]:
        """Split sorted patients so that each part holds about so many images, never splitting a patient."""
        sizes = torch.bincount(self.patient, minlength=self.count)[chosen]
        part = (sizes.cumsum(0) - 1) // images
        return [chosen[part == number] for number in sorted(set(part.tolist()))]


def patient_weights(patients: Sequence[str]) -> Tensor:
    """Return one over the number of images of each image's patient, (N,): a sum by it counts every patient once."""
    owner = patient_numbers(patients)
    return 1 / torch.bincount(owner)[owner]


def patient_numbers(patients: Sequence[str]) -> Tensor:
    """Return each image's patient as a number from 0, in the order of their first images, (N,) int64."""
    number = {name: i for i, name in enumerate(dict.fromkeys(patients))}
    return torch.tensor([number[name] for name in patients])


def train_private(network: nn.Module, gradient: PatientGradient, *, steps: int, lr: float) -> None:
    """Take `steps` noisy steps from the network's parameters; leave their tail (Polyak-Ruppert) average in it.

    The average is post-processing: it removes most of the noise of single steps at no privacy cost.
    """
    layout = ParameterLayout.of(network)
    theta = layout.flatten(network).to(gradient.images.device)
    late, began = torch.zeros_like(theta), steps // 2
    for step in range(steps):
        theta.sub_(gradient(theta), alpha=lr)
        if step >= began:
            late += theta
    layout.load(network, late / (steps - began))


def noised_class_counts(
    labels: Tensor, patients: Sequence[str], *, num_classes: int, noise_multiplier: float, generator: torch.Generator
) -> Tensor:
    """Return how many patients each class has, (K,), with noise for sensitivity 1, floored at 2 % of the total.

    A patient with images of several classes counts in each by its share of their images.
    """
    counts = torch.zeros(num_classes).index_add_(0, labels.cpu(), patient_weights(patients))
    counts += noise_multiplier * torch.randn(num_classes, generator=generator)
    return counts.clamp_min(max(1.0, 0.02 * float(counts.sum())))
