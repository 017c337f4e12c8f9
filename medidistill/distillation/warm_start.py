"""The images of one set as the beginning of another."""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from medidistill.distillation.parameterization import Parameterization
from medidistill.distilled_set import DistilledSet
from medidistill.packed_images import PackedImages

__all__ = ["stored_images_of"]


def stored_images_of(start: DistilledSet, maps: Parameterization) -> Tensor:
    """Return the images of a set as stored images (N, C, h, h) of a parameterization.

    Where both store small pictures these are resized. Pictures of low DCT frequencies are others than small pictures
    that are interpolated: between the two the images are decoded, and those that decode closest to them are taken.
    """
    packed = start.packed
    to_dct = maps.decoder == "dct" and maps.upsampling is not None
    if (packed is not None and packed.decoder == "dct") == to_dct:
        return _resized(start.images if packed is None else packed.values(), maps.stored_side)
    whole = _resized(start.images, maps.side)
    return whole if maps.upsampling is None else PackedImages.nearest(whole, maps.stored_side, maps.decoder).values()


def _resized(images: Tensor, side: int) -> Tensor:
    if images.shape[-1] == side:
        return images
    way = "area" if images.shape[-1] > side else "bilinear"
    return F.interpolate(images, size=side, mode=way, align_corners=None if way == "area" else False)
