"""Keyword arguments of `medidistill.distill` to the configuration of a run."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from medidistill.config import METHODS, DistillConfig, NetworkConfig, RunConfig, with_settings
from medidistill.config.fields import rules
from medidistill.errors import ArgumentError, ArgumentTypeError, ConfigError, did_you_mean
from medidistill.jsontypes import (  # settings as the caller gave them, before they are checked
    JsonObject,
    ReadOnlyJsonObject,
)
from medidistill.networks import make_network, register_network
from medidistill.networks.functional import has_dropout
from medidistill.pipeline.config_io.config_file import load_config
from medidistill.seeding import stream

__all__ = ["check_network", "run_config"]

_REAL_ARMS = ("full", "packed", "random", "kmeans", "herding")
_NAMES = rules(NetworkConfig)["name"].options
_DEVICES = ("cpu", "cuda", "auto")


def run_config(
    *,
    ipc: int,
    method: str | Sequence[str],
    network: Any,
    device: str | torch.device,
    seed: int,
    image_size: int | None,
    class_names: Sequence[str],
    settings: ReadOnlyJsonObject,
) -> RunConfig:
    """Return the configuration that the arguments of `distill` ask for.

    Args:
        ipc: images per class.
        method: `auto` for those of the base configuration, a method, or several.
        network: name, `NetworkConfig`, module or factory; None: that of the base configuration.
        device: `cpu`, `cuda` or `auto`.
        seed: of the run and of the split.
        image_size: rows and columns; None: those of the base configuration.
        class_names: in label order, empty where the source decides.
        settings: `config` (a preset, a YAML file or a `RunConfig`; `quick` unless given), fields of `RunConfig`
            (sections as mappings), fields of `DistillConfig` by their bare name, and dotted keys.

    Raises:
        ArgumentError, ConfigError: a setting that is unknown or out of its range.
    """
    given = dict(settings)
    config = _base(given.pop("config", "quick"))
    nested = _nested(given)
    _whole("ipc", ipc, 1, 100_000)
    _whole("seed", seed, 0, 2**63 - 1)
    changes: JsonObject = {
        "name": "Distilled from Python",
        "seed": seed,
        "device": _device(device),
        "ingest": {"seed": seed, "classes": tuple(class_names)},
        "distill": {"ipc": ipc},
    }
    if image_size is not None:
        changes["ingest"]["image_size"] = image_size
        factor = nested.get("distill", {}).get("factor")
        if factor is None and (image_size % config.distill.factor or image_size // config.distill.factor < 4):
            changes["distill"]["factor"] = 1
    if network is not None:
        changes["network"], changes["evaluate"] = _network(network)
    arms, deliver = _arms(config, method)
    changes["evaluate"] = {**changes.get("evaluate", {}), "arms": arms}
    changes["deliver"] = deliver
    return _with(_with(config, changes), nested)


def _base(config: Any) -> RunConfig:
    if isinstance(config, RunConfig):
        return config
    if isinstance(config, (str, os.PathLike)):
        return load_config(Path(config))
    raise ArgumentTypeError("config", type(config).__name__, "a preset's name, a YAML file or a RunConfig")


def _with(config: RunConfig, changes: ReadOnlyJsonObject) -> RunConfig:
    changed: RunConfig = with_settings(config, changes)
    return changed


def _nested(settings: ReadOnlyJsonObject) -> JsonObject:
    """Return settings as nested sections; a bare field of `DistillConfig` belongs to `distill`."""
    whole = {item.name for item in dataclasses.fields(RunConfig)} - {"seed", "device"}
    own = {item.name for item in dataclasses.fields(DistillConfig)} - {"ipc"}
    nested: JsonObject = {}
    for key, value in settings.items():
        first = key.partition(".")[0]
        if first in whole:
            path = key.split(".")
        elif key in own:
            path = ["distill", key]
        else:
            known = [*whole, *own]
            guess = did_you_mean(key, known) or "; see medidistill.config.DistillConfig and RunConfig"
            raise ArgumentError(key, repr(value)[:60], f"a setting that exists{guess}")
        here = nested
        for name in path[:-1]:
            here = here.setdefault(name, {})
            if not isinstance(here, dict):
                raise ArgumentError(key, repr(value)[:60], f"given once: {name} is given as a whole too")
        last, old = path[-1], here.get(path[-1])
        both = isinstance(old, dict) and isinstance(value, Mapping)
        here[last] = (
            {**old, **value} if both and isinstance(old, dict) else dict(value) if isinstance(value, Mapping) else value
        )
    return nested


def _whole(name: str, value: Any, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ArgumentTypeError(name, repr(value), f"a whole number in [{low}, {high}]")
    if not low <= value <= high:
        raise ArgumentError(name, value, f"in [{low}, {high}]")


def _device(device: Any) -> str:
    name = str(device) if isinstance(device, (str, torch.device)) else None
    if name is None:
        raise ArgumentTypeError("device", type(device).__name__, "'cpu', 'cuda' or 'auto'")
    if name not in _DEVICES:
        remedy = "choose the GPU with CUDA_VISIBLE_DEVICES" if name.startswith("cuda:") else ""
        raise ArgumentError("device", repr(name), "'cpu', 'cuda' or 'auto'", remedy)
    if name == "cuda" and not torch.cuda.is_available():
        raise ArgumentError("device", "'cuda'", "a device that is there", "torch sees no CUDA GPU; use 'cpu' or 'auto'")
    return name


def _network(network: Any) -> tuple[JsonObject, JsonObject]:
    """Return the changes of the sections `network` and `evaluate`."""
    if isinstance(network, str):
        if network not in _NAMES:
            raise ArgumentError(
                "network",
                repr(network),
                f"one of {', '.join(_NAMES)}, a module or a factory{did_you_mean(network, _NAMES)}",
            )
        network = NetworkConfig(name=network)
    elif isinstance(network, nn.Module) or (callable(network) and not isinstance(network, NetworkConfig)):
        network = register_network(network)
    elif not isinstance(network, NetworkConfig):
        raise ArgumentTypeError("network", type(network).__name__, "a network's name, a torch.nn.Module or a factory")
    return dataclasses.asdict(network), {"architectures": (network.name,)}


def _arms(config: RunConfig, method: Any) -> tuple[tuple[str, ...], str]:
    """Return what is compared, and which method is delivered."""
    if method == "auto":
        return config.evaluate.arms, "auto"
    methods = (method,) if isinstance(method, str) else method
    if not isinstance(methods, Sequence) or not methods or not all(isinstance(one, str) for one in methods):
        raise ArgumentTypeError("method", repr(method)[:60], "'auto', a method or a list of methods")
    for one in methods:
        if one not in METHODS:
            meant = did_you_mean(one, METHODS)  # then the whole list would only hide it
            allowed = "auto or the name of a method" if meant else f"auto or one of {', '.join(METHODS)}"
            raise ArgumentError("method", repr(one), allowed + meant)
    needed = list(methods)
    for one in methods:
        start = config.distill_by(one).start_from
        if start and start not in needed:
            needed.append(start)
    real = tuple(arm for arm in config.evaluate.arms if arm in _REAL_ARMS)
    ordered = tuple(one for one in METHODS if one in needed)
    return (*real, *ordered), methods[0] if len(methods) == 1 else "auto"


def check_network(config: RunConfig, *, channels: int, image_size: int, num_classes: int) -> None:
    """Refuse, before anything is trained, a network that no trajectory can be matched with.

    Raises:
        ArgumentError: dropout or running statistics, or images or classes that it does not take.
        ConfigError: images that are too small for it.
    """
    try:
        network = make_network(
            config.network,
            channels=channels,
            image_size=image_size,
            num_classes=num_classes,
            generator=stream(config.seed, "check"),
        )
    except ArgumentError:
        raise
    except ConfigError as error:
        raise ArgumentError("network", repr(config.network.name), f"one for these images ({error})") from error
    if has_dropout(network) or any(True for _ in network.buffers()):
        raise ArgumentError(
            "network",
            repr(config.network.name),
            "without dropout and running statistics, a function of its parameters alone",
            "use 'convnet' here, and train others from the set: result.set.train(network)",
        )
