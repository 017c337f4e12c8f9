"""Expert trajectories on disk: one safetensors file an expert, read a few snapshots at a time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from medidistill.config import NetworkConfig, as_dict
from medidistill.errors import ConfigError, IngestError
from medidistill.files import save_tensors
from medidistill.jsontypes import JsonObject  # the header of a tensor file
from medidistill.networks import ParameterLayout, make_network

__all__ = ["FORMAT", "Architecture", "Expert", "Experts", "check_movement", "expert_file", "write_expert"]

FORMAT = 1  # files of before it was written have none


@dataclass(frozen=True)
class Architecture:
    """What decides the shape of every parameter vector of a trajectory."""

    network: NetworkConfig
    channels: int
    image_size: int
    num_classes: int

    def make_network(self, generator: torch.Generator) -> nn.Module:
        """Return a fresh network of this architecture."""
        return make_network(
            self.network,
            channels=self.channels,
            image_size=self.image_size,
            num_classes=self.num_classes,
            generator=generator,
        )

    def as_dict(self) -> JsonObject:
        """Return JSON types."""
        return as_dict(self)

    @classmethod
    def from_dict(cls, plain: JsonObject) -> Architecture:
        """Rebuild from `as_dict`."""
        return cls(**{**plain, "network": NetworkConfig(**plain["network"])})


def expert_file(folder: Path, number: int) -> Path:
    """Return the file of expert `number` of a pool."""
    return folder / f"expert-{number:04d}.safetensors"


def write_expert(path: Path, snapshots: Tensor, header: JsonObject) -> None:
    """Write snapshots (E + 1, P) float32 with their header; readable by the owner alone.

    A trajectory is computed from patients' images and can give them away: it never belongs in a bundle.
    """
    save_tensors(path, {"snapshots": snapshots}, {**header, "kind": "expert", "format": FORMAT}, mode=0o600)


@dataclass(frozen=True)
class Expert:
    """One expert file; snapshots are read when asked for."""

    path: Path
    header: JsonObject
    epochs: int

    @classmethod
    def open(cls, path: Path) -> Expert:
        """Read a file's header and shape.

        Raises:
            IngestError: the file is missing, damaged or not an expert.
        """
        if not path.is_file():
            raise IngestError(f"{path}: no such expert file; train experts first (medidistill experts)")
        try:
            with safe_open(str(path), framework="pt") as file:
                header = json.loads((file.metadata() or {}).get("medidistill", "{}"))
                if header.get("kind") != "expert":
                    raise IngestError(f"{path}: not an expert trajectory")
                if header.get("format", 0) > FORMAT:
                    raise IngestError(f"{path}: written by a newer medidistill; upgrade this one")
                count = file.get_slice("snapshots").get_shape()[0]
        except (SafetensorError, OSError, json.JSONDecodeError) as error:
            raise IngestError(
                f"{path}: damaged expert file ({error}); delete it and run again with --resume"
            ) from error
        return cls(path, header, count - 1)

    def snapshot(self, epoch: int) -> Tensor:
        """Return theta_epoch, shape (P,), a copy of its own."""
        with safe_open(str(self.path), framework="pt") as file:
            row: Tensor = file.get_slice("snapshots")[epoch : epoch + 1]
        return row[0].clone()


def check_movement(begin: Tensor, target: Tensor, what: str) -> None:
    """Raise `IngestError`, which names the distance as `what`, where two parameter vectors are equal or not finite."""
    movement = float((begin - target).square().sum())
    if not movement > 0 or movement == float("inf"):
        raise IngestError(f"{what} = {movement}; train it again")


class Experts:
    """A pool of experts of one architecture.

    Raises:
        ConfigError: no files, or files of different architectures.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        if not files:
            raise ConfigError("no expert files; train experts first (medidistill experts)")
        self.members = [Expert.open(Path(path)) for path in files]
        first = self.members[0].header["architecture"]
        for member in self.members:
            if member.header["architecture"] != first:
                raise ConfigError(f"{member.path}: architecture differs from {self.members[0].path.name}")
        self.architecture = Architecture.from_dict(first)

    def __len__(self) -> int:
        return len(self.members)

    @property
    def epochs(self) -> int:
        """Epochs that every expert has."""
        return min(member.epochs for member in self.members)

    def segment(self, expert: int, start: int, length: int) -> tuple[Tensor, Tensor]:
        """Return theta_start and theta_{start + length} of one expert.

        Raises:
            IngestError: the two are equal or not finite; the matching loss would divide by zero.
        """
        member = self.members[expert]
        begin, target = member.snapshot(start), member.snapshot(start + length)
        check_movement(begin, target, f"{member.path}: ||theta_{start} - theta_{start + length}||^2")
        return begin, target

    def moving(self, layout: ParameterLayout) -> Tensor:
        """Return which elements of theta any expert ever moved, (P,) bool."""
        moved = torch.zeros(len(layout), dtype=torch.bool)
        for member in self.members:
            moved |= member.snapshot(0) != member.snapshot(member.epochs)
        return moved
