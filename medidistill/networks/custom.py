"""Networks defined in Python: registered for this process, named by their class and the digest of their source.

A run, a distilled set and a bundle record the name, for example `custom-SmallNet-3f2a9c01b7de`. The digest covers the
source of every module class that is not torch's or torchvision's, or of the factory, and the structure of one network
built by it; so the same name means the same code, and a changed network gets another name.
"""

from __future__ import annotations

import copy
import hashlib
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from medidistill.config import NetworkConfig
from medidistill.config.training import CUSTOM_PREFIX
from medidistill.errors import ArgumentError, ArgumentTypeError, ConfigError
from medidistill.networks.adapting import adapt_network
from medidistill.networks.functional import has_dropout
from medidistill.seeding import global_seed

__all__ = ["NetworkFactory", "custom_network", "is_custom", "register_network"]

NetworkFactory = Callable[..., nn.Module]
"""Returns a new network; may take any of the keywords `channels`, `image_size` and `num_classes`."""

_SHAPE = ("channels", "image_size", "num_classes")
_FACTORIES: dict[str, NetworkFactory] = {}
_LIBRARIES = ("torch", "torchvision", "monai")


def is_custom(name: str) -> bool:
    """Whether a network's name is that of one defined in Python."""
    return name.startswith(CUSTOM_PREFIX)


def register_network(network: nn.Module | NetworkFactory, *, trajectories: bool = True) -> NetworkConfig:
    """Make a network usable by name in this process, and return the configuration that names it.

    Args:
        network: a factory that returns a new network at each call (a class, or a function; the keywords `channels`,
            `image_size` and `num_classes` are passed where it takes them), or a network. A network is copied and its
            layers' `reset_parameters` are called, so that each copy starts from other weights; the one given is not
            changed.
        trajectories: refuse dropout and running statistics (batch normalisation), with which a network is not a
            function of its parameters alone and cannot be distilled with.

    Raises:
        ArgumentTypeError: neither a network nor a callable that returns one.
        ArgumentError: a layer whose parameters cannot be reset, or, with `trajectories`, dropout or running statistics.
    """
    factory: NetworkFactory
    if isinstance(network, nn.Module):
        _check_resettable(network)
        factory = _Copies(copy.deepcopy(network).cpu())
        source, label = _module_source(network), type(network).__name__
    elif callable(network):
        factory, source = network, _source_of(network)
        label = getattr(network, "__name__", type(network).__name__)
    else:
        raise ArgumentTypeError("network", type(network).__name__, "a network's name, a torch.nn.Module or a factory")
    digest = hashlib.sha256(source.encode()).hexdigest()[:12]
    name = f"{CUSTOM_PREFIX}{re.sub('[^A-Za-z0-9]+', '', label)[:40] or 'network'}-{digest}"
    if trajectories:
        factory = _Checked(factory)
    _FACTORIES[name] = factory
    return NetworkConfig(name=name)


def custom_network(
    name: str, *, channels: int, image_size: int, num_classes: int, generator: torch.Generator
) -> nn.Module:
    """Build a registered network; its weights come from `generator`.

    Raises:
        ConfigError: it is not registered in this process, or does not fit images or classes.
    """
    if name not in _FACTORIES:
        raise ConfigError(
            f"network.name={name!r}: was defined in Python and is not registered in this process; call "
            "medidistill.register_network with the same network first, or train another: train(network=...)"
        )
    shape = {"channels": channels, "image_size": image_size, "num_classes": num_classes}
    with global_seed(generator):
        network = build(_FACTORIES[name], shape)
    return adapt_network(network, **shape)


def build(factory: NetworkFactory, shape: Mapping[str, int]) -> nn.Module:
    """Call a factory with what it takes of `shape`. Raises `ArgumentTypeError` where it returns no network."""
    network = factory(**{name: shape[name] for name in _taken(factory)})
    if not isinstance(network, nn.Module):
        raise ArgumentTypeError(
            "network", f"a factory that returns {type(network).__name__}", "one of a torch.nn.Module"
        )
    return network


def _taken(factory: NetworkFactory) -> list[str]:
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return []
    if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values()) and isinstance(factory, _Checked):
        return list(_SHAPE)
    return [name for name in _SHAPE if name in parameters]


class _Copies:
    """Returns copies of one network with fresh weights."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network

    def __call__(self) -> nn.Module:
        fresh = copy.deepcopy(self._network)
        for module in fresh.modules():
            if callable(reset := getattr(module, "reset_parameters", None)):
                reset()
        return fresh.requires_grad_()


class _Checked:
    """Refuses what the factory returns where no trajectory could be matched with it."""

    def __init__(self, factory: NetworkFactory) -> None:
        self._factory = factory

    def __call__(self, **shape: int) -> nn.Module:
        network = build(self._factory, shape)
        label = type(network).__name__
        if has_dropout(network):
            raise ArgumentError("network", label, "a network without dropout", "set its dropout to 0")
        if any(True for _ in network.buffers()):
            raise ArgumentError(
                "network",
                f"{label}, which has buffers (running statistics)",
                "a function of its parameters alone",
                "use instance or group normalisation in place of batch normalisation",
            )
        return network


def _check_resettable(network: nn.Module) -> None:
    for name, module in network.named_modules():
        own = any(True for _ in module.parameters(recurse=False))
        if own and not callable(getattr(module, "reset_parameters", None)):
            raise ArgumentError(
                "network",
                f"{type(network).__name__}, whose {name or 'top'} ({type(module).__name__}) has no reset_parameters",
                "one whose weights can be drawn anew",
                "pass a factory, for example its class",
            )


def _module_source(network: nn.Module) -> str:
    classes = {type(module) for module in network.modules()}
    own = sorted(
        (one for one in classes if one.__module__.split(".")[0] not in _LIBRARIES), key=lambda c: c.__qualname__
    )
    return "\n".join([str(network), *map(_source_of, own)])


def _source_of(thing: Any) -> str:
    """Return source text, or what stands in for it where Python keeps none (code typed at a prompt)."""
    try:
        return inspect.getsource(thing)
    except (OSError, TypeError):
        functions = vars(thing).values() if isinstance(thing, type) else [thing]
        codes = [code for one in functions if (code := getattr(one, "__code__", None)) is not None]
        parts = [repr((code.co_code.hex(), code.co_names, code.co_consts[1:2])) for code in codes]
        return "\n".join([getattr(thing, "__qualname__", type(thing).__qualname__), *parts])
