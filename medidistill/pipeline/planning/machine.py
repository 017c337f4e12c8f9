"""How this machine is used: the device, CPU threads, and only repeatable algorithms if asked for."""

from __future__ import annotations

import os

import torch

from medidistill.config import RunConfig
from medidistill.errors import ConfigError
from medidistill.networks import raise_malloc_thresholds

__all__ = ["device_named", "set_up"]


def set_up(config: RunConfig) -> torch.device:
    """Set this process up as `config` says; return where it computes. Raises `ConfigError` without such a device."""
    raise_malloc_thresholds()
    if config.threads:
        torch.set_num_threads(config.threads)
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it when it is first used
        torch.backends.cudnn.benchmark = False
    if torch.are_deterministic_algorithms_enabled() != config.deterministic:  # the call imports torch's compiler
        torch.use_deterministic_algorithms(config.deterministic)
    return device_named(config.device)


def device_named(name: str) -> torch.device:
    """Return `cpu`, or the GPU of this process: each rank of a machine has its own.

    Args:
        name: "cpu", "cuda", or "auto": a GPU where there is one.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cuda" and not count:
        raise ConfigError("device='cuda': torch sees no CUDA GPU here; use device=cpu or auto")
    if name == "cpu" or not count:
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % count)
    torch.cuda.set_device(device)
    return device
