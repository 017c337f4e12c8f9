"""Networks trained on from an expert's snapshot on the real images in other orders: how exact a target is.

An expert is trained by batches in one random order, so theta_{i+K} is one draw of where training from theta_i ends. R
continuations theta^(1) ... theta^(R), trained from theta_i for K epochs by the expert's own settings in orders of their
own, say what is common to the draws and what is not:

    mean = 1/R sum_r theta^(r),        variance_j = 1/(R - 1) sum_r (theta^(r)_j - mean_j)^2

The mean keeps 1/R of the variance of one draw. Momentum begins at 0 in each, since a snapshot has no velocity; so does
the student. A continuation is trained on patients' images and stays as private as the expert: it lies in a file beside
the experts (mode 0600), which names the expert, the settings and the images that it was made from, and is used again
while these are the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from medidistill.config import DistillConfig, ExpertConfig, digest
from medidistill.distillation.experts import expert_digest, train_further
from medidistill.distillation.problem import DistillProblem
from medidistill.distillation.trajectory import Expert, Experts
from medidistill.errors import ConfigError, DivergedError, IngestError
from medidistill.files import load_tensors, save_tensors
from medidistill.seeding import stream

__all__ = ["Continuations", "Spread", "continuation_file", "make_continuations"]

FORMAT = 1
_PAIRS = 16  # of expert and start that the variance is a mean over, at most


@dataclass(frozen=True)
class Spread:
    """What R continuations of one snapshot have in common.

    Args:
        mean: (P,) float32, their mean.
        variance: (P,) float32, their variance with the divisor R - 1.
    """

    mean: Tensor
    variance: Tensor


def continuation_file(expert: Path, start: int, epochs: int, count: int) -> Path:
    """Return the file of the continuations of one snapshot of the expert in the file `expert`."""
    name = f"{expert.stem}-from-{start:04d}-by-{epochs:04d}-of-{count:02d}.safetensors"
    return expert.parent / "continuations" / name


class Continuations:
    """The continuations of a pool, trained when they are first asked for.

    Args:
        experts: the pool.
        training: how its experts were trained.
        real: the normalised training images (N, C, H, W) and labels (N,) that they were trained on.
        epochs: K, how long each is trained on.
        count: R, how many there are of each snapshot.
        device: where to train.
        compile: compile the gradient.

    Raises:
        ConfigError: experts that were trained on other images or by other settings, or with differential privacy.
    """

    def __init__(
        self,
        experts: Experts,
        training: ExpertConfig,
        real: tuple[Tensor, Tensor],
        *,
        epochs: int,
        count: int,
        device: torch.device,
        compile: bool = False,
    ) -> None:
        if training.dp.enabled:
            raise ConfigError(
                "continuations of experts.dp: train on the real images without the privacy mechanism; use "
                "distill.target='expert' and another importance.kind than inverse_variance"
            )
        self.experts, self.training, self.epochs, self.count = experts, training, epochs, count
        self.images, self.labels = (part.to(device) for part in real)
        self.device, self.compile = device, compile
        seeds = {member.header["seed"] for member in experts.members}
        made_so = {seed: expert_digest(*real, experts.architecture, training, seed) for seed in seeds}
        for member in experts.members:
            if member.header["digest"] != made_so[member.header["seed"]]:
                raise ConfigError(
                    f"{member.path}: was trained on other images or by other settings than are given, so that it "
                    "cannot be continued; train the experts again"
                )
        self._network = experts.architecture.make_network(stream(0, "layout"))

    def __call__(self, number: int, start: int) -> Spread:
        """Return what the continuations of snapshot `start` of expert `number` have in common, on the CPU.

        Raises:
            DivergedError: one of them is not finite.
        """
        member = self.experts.members[number]
        path = continuation_file(member.path, start, self.epochs, self.count)
        name = digest("continuations", member.header["digest"], member.header["expert"], start, self.epochs, self.count)
        found = _read(path, name)
        if found is None:
            found = self._trained(member, start)
            header = {
                "kind": "continuations",
                "format": FORMAT,
                "digest": name,
                "expert_digest": member.header["digest"],
                "expert": member.header["expert"],
                "start": start,
                "epochs": self.epochs,
                "count": self.count,
            }
            save_tensors(path, {"mean": found.mean, "variance": found.variance}, header, mode=0o600)
        return found

    def _trained(self, member: Expert, start: int) -> Spread:
        ends = self.ends(member, start, range(self.count))
        return Spread(ends.mean(0), ends.var(0, correction=1))

    def ends(self, member: Expert, start: int, orders: range) -> Tensor:
        """Train one network for each number of `orders` and return their ends, (len(orders), P) float32 on the CPU.

        All at once on a GPU, which one small network does not fill; one after another on a CPU, whose results are
        then the same bytes at every R.

        Raises:
            DivergedError: an end is not finite.
        """
        begin, seed = member.snapshot(start).to(self.device), member.header["seed"]
        size = len(orders) if self.device.type == "cuda" else 1
        ends = []
        for first in range(0, len(orders), size):
            drawn = [
                stream(seed, "expert", member.header["expert"], "continuation", start, order)
                for order in orders[first : first + size]
            ]
            begins, settings = begin.expand(len(drawn), -1), self.training
            training = train_further(
                self.images, self.labels, self._network, settings, begins, self.epochs, drawn, compile=self.compile
            )
            *_, (end, _) = training
            ends.append(end.cpu().clone())
        made = torch.cat(ends)
        if not bool(made.isfinite().all()):
            raise DivergedError(f"{member.path}: training on from epoch {start} is not finite; lower experts.lr")
        return made

    def relative_variance(self, starts: range, generator: torch.Generator) -> Tensor:
        """Return the variance of each parameter over the squared distance that the continuations went, (P,) float64.

        It is a mean over all pairs of expert and start epoch, or over 16 drawn ones where there are more.

        Args:
            starts: start epochs.
            generator: draws the pairs.
        """
        pairs = [(number, start) for number in range(len(self.experts)) for start in starts]
        drawn = torch.randperm(len(pairs), generator=generator)[:_PAIRS].tolist()
        total = torch.zeros(int(self.experts.members[0].header["parameters"]), dtype=torch.float64)
        for number, start in (pairs[index] for index in drawn):
            spread, begin = self(number, start), self.experts.members[number].snapshot(start)
            total += spread.variance.double() / (spread.mean - begin).double().square().sum()
        return total / len(drawn)


def make_continuations(
    experts: Experts, problem: DistillProblem, config: DistillConfig, device: torch.device, *, compile: bool
) -> Continuations | None:
    """Return the continuations that the settings need, None where they need none.

    Raises:
        ConfigError: they are needed, and the real images or how the experts were trained is missing.
    """
    if not config.continues_experts:
        return None
    if problem.real is None or problem.expert_training is None:
        raise ConfigError(
            f"distill.target={config.target!r} with importance.kind={config.importance.kind!r} needs the real "
            "images and how the experts were trained; use target='expert' and another kind of weights"
        )
    return Continuations(
        experts,
        problem.expert_training,
        problem.real,
        epochs=config.expert_epochs,
        count=config.continuations,
        device=device,
        compile=compile,
    )


def _read(path: Path, name: str) -> Spread | None:
    """Return what is stored under the digest `name`; None where nothing is, or what is there is damaged."""
    try:
        tensors, header = load_tensors(path)
    except IngestError:
        return None
    if header.get("kind") != "continuations" or header.get("digest") != name:
        return None
    return Spread(tensors["mean"], tensors["variance"])
