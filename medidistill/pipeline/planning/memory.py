"""Whether the work fits into memory, before hours of it.

What a stage needs beyond the process as it is: images, parameter vectors, and what a gradient keeps. The last is
counted on a forward pass of two images and multiplied by what each kind of work was measured to hold at
its highest, uncompiled. Rough, and rather too much: a compiled step needs less. DP training is not counted.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from medidistill.config import NetworkConfig, RunConfig
from medidistill.distillation.trajectory import Architecture
from medidistill.errors import ResourceError
from medidistill.machine import free_memory, virtual_memory
from medidistill.networks import ParameterLayout, cross_entropy
from medidistill.scratch import MOST_IN_MEMORY
from medidistill.seeding import stream

__all__ = ["Need", "available", "check", "distill_need", "experts_need"]

_GB, _FLOAT = 1e9, 4
# highest of one step, uncompiled, over what its forward pass keeps; measured on the CPU with ConvNets of width 32 to 64
_GRADIENT, _ADJOINT, _STORED = 4.0, 11.0, 11.0
_UNREAD = 512  # images a step, at most, while it is not known how many there are
_VECTORS = 12  # parameter vectors that are held beside those of the path: snapshots, W and its averages, samples
_SMALL = 2**21  # numbers of a map: width 128 at 128 x 128
_MAPPED = 0.5e9  # rows of real images at work, where all of them lie in a file
_COPIES = 20  # of the distilled images: optimiser, best, checkpoints, pictures


@dataclass(frozen=True)
class Need:
    """What a stage needs at once, beyond the process as it is.

    Args:
        stage: its name.
        parts: the setting that lowers a part -> bytes.
    """

    stage: str
    parts: Mapping[str, float]

    @property
    def bytes(self) -> float:
        """All parts together."""
        return sum(self.parts.values())


def experts_need(config: RunConfig, images: int, classes: int) -> Need:
    """Return what training experts needs; `images`: read ones, 0 where they are not known yet."""
    kept, parameters = _network(config.network, config.ingest.image_size, classes)
    pool = config.experts
    return Need(
        "experts",
        {
            "a smaller experts.batch_size or network.width": _GRADIENT * kept * min(pool.batch_size, images or _UNREAD),
            "fewer experts.epochs": _FLOAT * parameters * (pool.epochs + 5),
            "a smaller ingest.image_size": _real_pixels(config, images),
        },
    )


def distill_need(config: RunConfig, method: str, images: int, classes: int) -> Need:
    """Return what distilling with `method` needs; `images` as for `experts_need`."""
    kept, parameters = _network(config.network, config.ingest.image_size, classes)
    rules = config.distill_by(method)
    count = classes * rules.images_per_class
    batch = min(rules.batch_size or count, count)
    stored = rules.gradient == "stored"
    inner = _STORED * rules.inner_steps if stored else _ADJOINT
    lower = "distill.gradient=adjoint" if stored else "a smaller distill.batch_size, network.width or ingest.image_size"
    return Need(
        f"distill/{method}",
        {
            lower: inner * kept * batch,
            "fewer distill.inner_steps or segments": _FLOAT
            * parameters
            * (rules.inner_steps + rules.segments + _VECTORS),
            "a smaller distill.ipc": _COPIES * _pixels(config, count),
            "a smaller ingest.image_size": _real_pixels(config, images),
        },
    )


def _pixels(config: RunConfig, images: int) -> float:
    return float(_FLOAT * images * config.ingest.image_size**2)


def _real_pixels(config: RunConfig, images: int) -> float:
    """Return the memory of real images and of their normalised copy, which lie in files where they are many."""
    one = _pixels(config, images)
    return 2 * one if one <= MOST_IN_MEMORY else _MAPPED


def _network(network: NetworkConfig, side: int, classes: int) -> tuple[float, int]:
    """Return the bytes that a forward pass keeps for each image, and the number of parameters."""
    # `meta` tensors have no numbers, but make torch load its compiler, which takes seconds: more than a small pass does
    small = network.name == "convnet" and side * side * network.width <= _SMALL
    device = torch.device("cpu" if small else "meta")
    model = Architecture(network, 1, side, classes).make_network(stream(0, "memory")).to(device)
    held: list[torch.Tensor] = []  # until they are counted: the place of a freed one would be given to the next
    batch = 2

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        held.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        x = torch.zeros(batch, 1, side, side, device=device)
        cross_entropy(model(x), torch.zeros(batch, dtype=torch.int64, device=device))
    own = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    kept = {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in held}
    return sum(size for place, size in kept.items() if place not in own) / batch, len(ParameterLayout.of(model))


def available(device: torch.device) -> float:
    """Return the bytes that this process may still take on `device`."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    return min(_limits())


def _limits() -> Iterator[float]:
    """Yield what the machine has free, what the container or the job leaves, and what `ulimit -v` does."""
    yield float(free_memory())
    for line in _lines(Path("/proc/self/cgroup")):  # Linux alone has one
        if line.startswith("0::"):
            group = Path("/sys/fs/cgroup") / line[3:].lstrip("/")
            for folder in (group, *group.parents):
                most, now = ("".join(_lines(folder / f"memory.{name}")) for name in ("max", "current"))
                if most.isdecimal() and now.isdecimal():
                    files = [one for one in _lines(folder / "memory.stat") if one.startswith("inactive_file ")]
                    yield float(int(most) - int(now) + sum(int(one.split()[1]) for one in files))
    most_addresses = resource.getrlimit(resource.RLIMIT_AS)[0]
    if most_addresses != resource.RLIM_INFINITY:
        yield float(most_addresses - virtual_memory())


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except OSError:
        return []


def check(need: Need, device: torch.device) -> None:
    """Refuse work that will not fit. Raises `ResourceError` with the figures and the setting that helps most.

    Ranks of one machine share its memory: torchrun says how many there are.
    """
    free = available(device)
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if device.type == "cpu" else 1
    if need.bytes * here <= free:
        return
    helps = max(need.parts, key=lambda name: need.parts[name])
    where = "" if device.type == "cpu" else f" on {device}"
    times = f" in {here} processes" if here > 1 else ""
    raise ResourceError(
        f"{need.stage}: needs about {need.bytes * here / _GB:.1f} GB of memory{times}, {max(free, 0) / _GB:.1f} GB "
        f"free{where}; try {helps}, or memory_check=false if you know better"
    )
