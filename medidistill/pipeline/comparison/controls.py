"""Real images as a control: in the bytes of the distilled sets, and with the labels of the experts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from medidistill.config import DistillConfig, RunConfig, TrainingConfig, with_settings
from medidistill.distillation import Experts, expert_labels
from medidistill.distilled_set import LabelledImages
from medidistill.errors import ConfigError
from medidistill.evaluate import Arm, ArmRun, random_subset
from medidistill.jsontypes import JsonObject  # facts of an arm, kept with its cell
from medidistill.packed_images import PackedImages, rounded_labels
from medidistill.seeding import stream
from medidistill.spectral_images import SPECTRAL, rounded_spectrum

__all__ = ["PACKED", "Packing", "chosen_form", "labelled_by_experts", "packed_images", "packings"]

PACKED = "packed"  # the control of a packed set: random real images in the same bytes
PACKING_FACTORS = (1, 2, 4)
_SMALLEST_SIDE = 4


@dataclass(frozen=True)
class Packing:
    """One way to store real images.

    Args:
        decoder: how they become training images.
        bits: of a stored value.
        factor: f; a stored image takes the bits of (side / f)^2 values.
        per_class: how many of each class the bytes of the largest set hold.
    """

    decoder: str
    bits: int
    factor: int
    per_class: int


def packings(shared: DistillConfig, sets: Sequence[DistillConfig], side: int) -> list[Packing]:
    """Return the ways to store random real images in the bytes of the distilled sets.

    Each factor f that divides the side stores f^2 as many images at side / f, in 8 bits, and in fewer where a set has
    fewer, decoded as the sets are. Where one is stored as amplitudes, so are these, but those of full size: at equal
    bytes amplitudes are closer to the images than small pictures at every size. Sets in 32 bits a value take four times
    the bytes, and so may the control.

    Args:
        shared: settings of all methods.
        sets: settings of each compared method.
        side: rows and columns of a training image.
    """
    fewer = sorted({one.stored_bits for one in sets if one.stored_bits < 8}, reverse=True)
    decoders = {one.decoder for one in sets}
    ways = [("bilinear", bits, factor) for bits in (8, *fewer) for factor in PACKING_FACTORS]
    if "dct" in decoders:
        ways += [("dct", bits, factor) for bits in (8, *fewer) for factor in PACKING_FACTORS[1:]]
    if SPECTRAL in decoders:
        ways = [("bilinear", 8, 1)]
        ways += [(SPECTRAL, bits, factor) for bits in (8, *fewer) for factor in PACKING_FACTORS[1:]]
    most = max((one.bits_per_class for one in sets), default=8 * shared.ipc) / (8 * shared.ipc)
    return [
        Packing(decoder, bits, f, int(most * with_settings(shared, {"factor": f, "bits": bits}).images_per_class))
        for decoder, bits, f in ways
        if side % f == 0 and side // f >= _SMALLEST_SIDE
    ]


def packed_images(
    config: RunConfig, images: Tensor, train: LabelledImages, experts: Experts | None, ways: Sequence[Packing]
) -> Arm:
    """Return random real images, packed in each of several ways; validation chooses.

    How many there are is limited by the smallest class. Each way has a form with the experts' labels.

    Args:
        config: the run.
        images: (N, C, side, side), normalised, of the training split.
        train: the split.
        experts: a pool that may label them.
        ways: see `packings`.
    """
    adaptive = config.evaluate.adaptive.plain_training()
    smallest = int(torch.bincount(train.labels).min())
    forms = []
    for way in ways:
        count = min(way.per_class, smallest)
        index = random_subset(train.labels, count, stream(config.seed, "arm", "random"), train.class_names)
        info: JsonObject = {"ipc": config.distill.ipc, "factor": way.factor, "decoded": count}
        info |= {} if way.bits == 8 else {"bits": way.bits}
        info |= {} if way.decoder == "bilinear" else {"decoder": way.decoder}
        form = Arm(PACKED, _shown(images[index], way), train.labels[index], (adaptive,), info)
        labelled = labelled_by_experts(form, experts, train, adaptive)
        if way.decoder == SPECTRAL:
            labelled = tuple(dataclasses.replace(one, labels=rounded_labels(one.labels)) for one in labelled)
        forms += [form, *labelled]
    return dataclasses.replace(forms[0], forms=tuple(forms[1:]))


def _shown(images: Tensor, way: Packing) -> Tensor:
    """Return images (N, C, side, side) as they are once they were stored."""
    side = images.shape[-1]
    if way.decoder == SPECTRAL:
        return rounded_spectrum(images, side // way.factor, way.bits)
    if way.decoder == "dct":
        whole = PackedImages.nearest(images, side // way.factor, "dct")
    else:
        stored = images if way.factor == 1 else F.interpolate(images, size=side // way.factor, mode="area")
        whole = PackedImages(stored.contiguous(), side)
    return whole.quantised(way.bits).decode()


def labelled_by_experts(
    arm: Arm, experts: Experts | None, train: LabelledImages, training: TrainingConfig
) -> tuple[Arm, ...]:
    """Return the arm with the experts' labels, none where there is no pool."""
    if experts is None:
        return ()
    labels = expert_labels(experts, arm.images, torch.bincount(train.labels, minlength=train.num_classes).tolist())
    return (dataclasses.replace(arm, labels=labels, candidates=(training,), info={**arm.info, "labels": "experts"}),)


def chosen_form(arm: Arm, cell: ArmRun) -> Arm:
    """Return the form of `arm` that a cell was trained on: the one with the facts that the cell kept.

    Raises:
        ConfigError: no form has them; the cell is of another configuration.
    """
    for form in (arm, *arm.forms):
        if all(cell.info.get(name) == form.info.get(name) for name in ("factor", "bits", "decoder", "labels")):
            return form
    raise ConfigError(
        f"arm {arm.name}: no form with factor {cell.info.get('factor')} and bits {cell.info.get('bits')}; "
        "run the evaluation again"
    )
