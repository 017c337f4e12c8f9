"""Where a network looks: Grad-CAM of the class that it calls, and which test images to show it on.

Grad-CAM weights the channels of a late feature map by the mean slope of the class's logit and keeps what is positive.
It is as coarse as that map (8 x 8 cells for the ConvNet at 64 pixels) and has no scale of its own: each map is divided
by its largest value.

Cases are drawn, not picked: by what two models make of them, and at random within that.

Source: Selvaraju et al. 2017, ICCV (Grad-CAM), in MONAI's implementation; Adebayo et al. 2018, NeurIPS (why a plausible
map is no proof).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from medidistill.errors import ConfigError
from medidistill.extras import require_extra
from medidistill.seeding import stream

__all__ = ["draw_cases", "grad_cam", "outcomes"]

_LATE_LAYERS = {"features.norm5"}  # MONAI's DenseNet: its last convolution sees a small part of the channels only


def grad_cam(network: nn.Module, images: Tensor, classes: Sequence[int]) -> npt.NDArray[np.float32]:
    """Return the Grad-CAM of each image for the class named beside it, from the last convolution of the network.

    Args:
        network: from images to logits; put into evaluation mode.
        images: (N, C, H, W) float32, normalised.
        classes: N class indices.

    Returns:
        (N, H, W) float32 in [0, 1]; all zero where nothing speaks for the class.

    Raises:
        ConfigError: the network has no convolution, or the counts differ.
    """
    require_extra("networks", "an explanation", "monai")
    from monai.visualize.class_activation_maps import GradCAM

    if len(classes) != len(images):
        raise ConfigError(f"{len(classes)} classes for {len(images)} images: give one an image")
    network.eval()
    for module in network.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False  # a layer that overwrites its input cannot be hooked
    # the default of `postprocessing` would turn the scale around
    explain = GradCAM(network, target_layers=_late_layer(network), postprocessing=lambda maps: maps)
    found = []
    for image, called in zip(images, classes, strict=True):
        x = image[None].clone().requires_grad_()
        found.append(torch.as_tensor(explain(x, class_idx=int(called)))[0, 0].detach().cpu())
    maps: npt.NDArray[np.float32] = torch.stack(found).float().numpy()
    highest = maps.max(axis=(1, 2), keepdims=True)
    np.divide(maps, highest, out=maps, where=highest > 0)
    return maps


def _late_layer(network: nn.Module) -> str:
    names = [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d)]
    if not names:
        raise ConfigError(f"{type(network).__name__}: has no convolution, so there is no map to explain it by")
    late = [name for name, _ in network.named_modules() if name in _LATE_LAYERS]
    return str((late or names)[-1])


def outcomes(
    first: str, first_right: npt.ArrayLike, second: str, second_right: npt.ArrayLike
) -> dict[str, npt.NDArray[np.int64]]:
    """Return outcome -> the images (indices) on which the models `first` and `second` are right or wrong so."""
    a, b = np.asarray(first_right, dtype=bool), np.asarray(second_right, dtype=bool)
    masks = {
        "both are right": a & b,
        f"only {first} is right": a & ~b,
        f"only {second} is right": ~a & b,
        "both are wrong": ~a & ~b,
    }
    return {name: np.flatnonzero(mask) for name, mask in masks.items()}


def draw_cases(
    by_outcome: Mapping[str, npt.NDArray[np.int64]], patient_ids: Sequence[str], cases: int, seed: int
) -> dict[str, list[int]]:
    """Return up to `cases` images of each outcome, drawn at random, no patient twice.

    Args:
        by_outcome: what `outcomes` returned.
        patient_ids: of all images.
        cases: of each outcome, >= 1.
        seed: of the drawing, whatever the maps look like.
    """
    seen: set[str] = set()
    drawn: dict[str, list[int]] = {}
    for number, (name, found) in enumerate(by_outcome.items()):
        drawn[name] = []
        for place in torch.randperm(len(found), generator=stream(seed, "saliency", number)).tolist():
            index = int(found[place])
            if len(drawn[name]) < cases and patient_ids[index] not in seen:
                seen.add(patient_ids[index])
                drawn[name].append(index)
    return drawn
