"""Tensors in files without names, and what is computed into them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from medidistill import scratch
from medidistill.config import IngestConfig
from medidistill.distillation import at_coarse_side
from medidistill.errors import ResourceError
from medidistill.ingest import ingest
from medidistill.normalisation import Normalisation
from medidistill.pipeline.prepared import PreparedData
from medidistill.scratch import mapped, scratch_tensor
from tests.cli.conftest import draw_pictures


@pytest.fixture
def nothing_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "MOST_IN_MEMORY", 0)


def _files_of(tensor: torch.Tensor) -> list[str]:
    """Return the files of which this process has the tensor's address in a mapping."""
    place, found = tensor.data_ptr(), []
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, end = (int(one, 16) for one in line.split()[0].split("-"))
        if start <= place < end:
            found += line.split(maxsplit=5)[5:]
    return found


def test_a_small_tensor_is_in_memory_and_a_large_one_in_a_file_without_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not any("scratch" in one for one in _files_of(scratch_tensor((4, 5), tmp_path)))
    monkeypatch.setattr(scratch, "MOST_IN_MEMORY", 79)
    large = scratch_tensor((4, 5), tmp_path)
    assert large.shape == (4, 5)
    assert large.dtype == torch.float32
    (file,) = _files_of(large)
    assert file.startswith(str(tmp_path))
    assert file.endswith("(deleted)")
    assert list(tmp_path.iterdir()) == []
    large[:] = torch.arange(20.0).view(4, 5)
    assert large.sum() == 190


def test_without_a_folder_it_is_in_memory(nothing_in_memory: None) -> None:
    assert scratch_tensor((2, 3), None).shape == (2, 3)
    assert mapped(lambda rows: rows + 1, torch.zeros(3), None).tolist() == [1, 1, 1]


def test_a_folder_that_cannot_be_written_is_an_error_of_resources(tmp_path: Path, nothing_in_memory: None) -> None:
    with pytest.raises(ResourceError, match="cannot write"):
        scratch_tensor((2, 3), tmp_path / "missing")


def test_a_full_disk_is_an_error_and_no_crash(
    tmp_path: Path, nothing_in_memory: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(scratch.os, "posix_fallocate", full)
    with pytest.raises(ResourceError, match="the disk is full"):
        scratch_tensor((2, 3), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_rows_are_the_same_however_they_are_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.rand(600, 1, 8, 8)
    for normalisation in (Normalisation(), Normalisation("fixed")):
        whole = normalisation.apply(images)
        coarse = at_coarse_side(whole, 2, normalisation)
        with monkeypatch.context() as patch:
            patch.setattr(scratch, "MOST_IN_MEMORY", 0)
            assert torch.equal(mapped(normalisation.apply, images, tmp_path), whole)
            assert torch.equal(at_coarse_side(whole, 2, normalisation, tmp_path), coarse)


def test_an_ingest_that_keeps_its_images_in_files_gives_the_same_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = draw_pictures(tmp_path / "pictures")
    config, made = IngestConfig(image_size=16), []
    for name, most in (("memory", 2**30), ("files", 0)):
        monkeypatch.setattr(scratch, "MOST_IN_MEMORY", most)
        (tmp_path / name).mkdir()
        result = ingest(pictures, config, folder=tmp_path / name)
        made.append(PreparedData.write(result, tmp_path / name))
    assert _files_of(result.train.images)[0].endswith("(deleted)")
    assert made[0].digest == made[1].digest
    for split in ("train", "val", "test"):
        assert (tmp_path / "memory" / f"{split}.safetensors").read_bytes() == (
            tmp_path / "files" / f"{split}.safetensors"
        ).read_bytes()
    assert torch.equal(made[0].training_tensors()[0], made[1].training_tensors()[0])
