"""Films at the resolution of their files: the same picture that the prepared image was averaged from."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from medidistill.config import IngestConfig
from medidistill.ingest import ingest
from medidistill.ingest.originals import original_squares

CONFIG = IngestConfig(image_size=16)


@pytest.fixture
def films(tmp_path):
    for k, label in enumerate(("cat", "dog")):
        (tmp_path / "films" / label).mkdir(parents=True)
        for i in range(8):
            pixels = np.random.default_rng(10 * k + i).integers(0, 255, (64, 96), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "films" / label / f"{i}.png")
    return tmp_path / "films"


def test_original_averages_to_the_prepared_image(films, tmp_path):
    read = ingest(films, CONFIG)
    wanted = dict(zip(read.manifest["key"], read.manifest["sha256"], strict=True))
    found = original_squares(films, CONFIG, wanted, tmp_path / "private")
    assert set(found) == set(wanted)
    for image, key in zip(read.test.images, read.test.keys, strict=True):
        assert found[key].shape == (64, 64)
        np.testing.assert_allclose(found[key].reshape(16, 4, 16, 4).mean(axis=(1, 3)), image[0].numpy(), atol=1e-5)
    assert not (tmp_path / "private" / "unpacked").exists()


def test_changed_missing_and_unasked_films_are_not_returned(films, tmp_path):
    read = ingest(films, CONFIG)
    digests = dict(zip(read.manifest["key"], read.manifest["sha256"], strict=True))
    Image.new("L", (64, 96)).save(films / "cat" / "0.png")
    (films / "cat" / "1.png").unlink()
    wanted = {key: digests[key] for key in ("cat/0.png", "cat/1.png", "cat/2.png")}
    assert set(original_squares(films, CONFIG, wanted, tmp_path / "private")) == {"cat/2.png"}
    assert original_squares(tmp_path / "gone", CONFIG, wanted, tmp_path / "private") == {}
