"""The one place where MONAI transforms are composed: file to (1, H, W) float32 in [0, 1], cached."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

from monai.data.dataset import PersistentDataset
from monai.transforms.compose import Compose
from monai.transforms.io.dictionary import LoadImaged
from monai.transforms.spatial.dictionary import Resized
from monai.transforms.transform import MapTransform
from monai.transforms.utility.dictionary import EnsureChannelFirstd, EnsureTyped

from medidistill.errors import ConfigError, IngestError
from medidistill.files import translate_os_errors
from medidistill.ingest.dicom import ChestXrayReader
from medidistill.ingest.examine import Examined
from medidistill.jsontypes import JsonObject  # MONAI's items

__all__ = ["CentreSquared", "Loader", "compose"]

_VERSION = 5  # raise it when the same file comes out differently: stale entries of a disk cache must not be read


class CentreSquared(MapTransform):  # type: ignore[misc, unused-ignore]
    """Cut the central square out of (C, H, W) and note the size before it as `height` and `width`."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with its pictures cut to (C, S, S), S = min(H, W)."""
        item = dict(data)
        for key in self.key_iterator(item):
            height, width = item[key].shape[-2:]
            side = min(height, width)
            top, left = (height - side) // 2, (width - side) // 2
            item[key] = item[key][..., top : top + side, left : left + side]
            item["height"], item["width"] = int(height), int(width)
        return item


def compose(image_size: int) -> Compose:
    """Return the transform of an item ``{"image": path}`` to (1, image_size, image_size) float32 in [0, 1].

    Area resampling: each new pixel is the mean of what it covers, so no fine structure turns into moire.
    """
    # LoadImaged also sets up readers that are never asked, and one of them complains of a missing GPU decoder
    logging.getLogger("monai.data.nvimgcodec_pydicom_plugin").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        load = LoadImaged(keys="image", reader=ChestXrayReader(), image_only=True)
    return Compose(
        [
            load,
            EnsureChannelFirstd(keys="image"),
            Examined(keys="image"),
            CentreSquared(keys="image"),
            Resized(keys="image", spatial_size=(image_size, image_size), mode="area"),
            EnsureTyped(keys="image", track_meta=False),
        ]
    )


class Loader:
    """Reads one picture to what a network needs, and keeps the result on disk where that is asked for.

    Args:
        image_size: rows and columns of the result.
        cache: `memory`, or `disk`: a file an image, named by the image's digest, in a folder that only its
            owner can enter. It holds patient pixels: delete it with the data. MONAI writes each entry to a
            closed folder below the system's temporary one first, and moves it.
        folder: where the disk cache goes.

    Raises:
        ConfigError: a disk cache without a folder.
        ResourceError: the folder cannot be made.
    """

    def __init__(self, image_size: int, cache: str, folder: Path | None) -> None:
        self.image_size, self.transform, self.images = image_size, compose(image_size), None
        if cache == "memory":
            return
        if folder is None:
            raise ConfigError("IngestConfig.cache='disk': needs a folder; pass one or use cache='memory'")
        self.images = folder / "images"
        with translate_os_errors(self.images):
            self.images.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.images.chmod(0o700)

    def __call__(self, place: str, digest: str) -> JsonObject:
        """Return the item of the picture at `place`: image (1, S, S) float32 in [0, 1], and what `Examined` notes.

        Args:
            place: see `medidistill.ingest.dicom.address`.
            digest: names the picture by its content.

        Raises:
            IngestError: the reason why the picture cannot be used.
            ResourceError: the cache cannot be written.
        """
        with translate_os_errors(self.images or Path()):
            try:
                return self._item({"image": place, "digest": digest})
            except RuntimeError as error:
                # MONAI wraps what its transforms raise
                cause: BaseException | None = error
                while cause is not None and not isinstance(cause, IngestError):
                    cause = cause.__cause__
                if cause is None:
                    raise
                raise cause from error

    def _item(self, data: dict[str, str]) -> JsonObject:
        if self.images is None:
            item: JsonObject = self.transform(data)
            return item
        item = PersistentDataset([data], self.transform, cache_dir=self.images, hash_func=self._name)[0]
        return item

    def _name(self, item: Mapping[str, str]) -> bytes:
        return f"v{_VERSION}-{self.image_size}-{item['digest']}".encode()
