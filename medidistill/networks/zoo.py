"""Networks by name. torchvision and MONAI are imported only when one of theirs is asked for.

VGG-11 and AlexNet are their convolutions, global average pooling and one linear layer, as in work on dataset
distillation: the three dense layers that follow in the originals were made for 224 pixels and 1,000 classes, and their
    120 and 55 million weights would be nearly all of the network.
"""

from __future__ import annotations

import torch
from torch import nn

from medidistill.config import NetworkConfig
from medidistill.errors import ConfigError
from medidistill.extras import require_extra
from medidistill.networks.adapting import RepeatChannel
from medidistill.networks.convnet import ConvNet, default_depth
from medidistill.networks.custom import custom_network, is_custom
from medidistill.seeding import global_seed

__all__ = ["make_network"]

_LIBRARIES = {"densenet121": "monai"}
_SMALLEST = {"resnet18": 32, "vgg11": 32, "alexnet": 16, "densenet121": 32, "vit": 16}
# a vision transformer of 0.8 million parameters: an eighth of the side as patch, six layers of four heads
_VIT = {"num_layers": 6, "num_heads": 4, "hidden_dim": 128, "mlp_dim": 256}


def make_network(
    config: NetworkConfig, *, channels: int, image_size: int, num_classes: int, generator: torch.Generator
) -> nn.Module:
    """Build a freshly initialised network; all its random numbers come from `generator`.

    Args:
        config: name and, for the ConvNet, width, depth and norm.
        channels: channels of the images, 1 or 3. The torchvision networks see one channel three times.
        image_size: rows and columns of the images.
        num_classes: outputs.
        generator: decides the initial weights.

    Returns:
        A network from (N, channels, image_size, image_size) to (N, num_classes) logits, on the CPU.

    Raises:
        ConfigError: the images are too small for the network, or it was defined in Python and is not registered in this
            process.
        MissingExtraError: torchvision or MONAI is not installed.
    """
    if is_custom(config.name):
        return custom_network(
            config.name, channels=channels, image_size=image_size, num_classes=num_classes, generator=generator
        )
    if config.name == "convnet":
        depth = config.depth or default_depth(image_size)
        if image_size >> depth < 1:
            raise ConfigError(
                f"network.depth={depth}: {image_size}-pixel images can be halved at most "
                f"{image_size.bit_length() - 1} times; lower the depth or raise image_size"
            )
        with global_seed(generator):
            return ConvNet(
                channels=channels,
                image_size=image_size,
                num_classes=num_classes,
                width=config.width,
                depth=depth,
                norm=config.norm,
            )
    if image_size < _SMALLEST[config.name]:
        raise ConfigError(
            f"network.name={config.name!r} needs images of at least {_SMALLEST[config.name]} pixels, got {image_size}"
        )
    require_extra("networks", f"network.name={config.name!r}", _LIBRARIES.get(config.name, "torchvision"))
    with global_seed(generator):
        return _library_network(config.name, channels, image_size, num_classes)


def _library_network(name: str, channels: int, image_size: int, num_classes: int) -> nn.Module:
    if name == "densenet121":
        from monai.networks.nets import DenseNet121

        densenet: nn.Module = DenseNet121(spatial_dims=2, in_channels=channels, out_channels=num_classes)
        return densenet
    from torchvision import models

    if name == "resnet18":
        return RepeatChannel(models.resnet18(num_classes=num_classes))
    if name == "vit":
        patch = max(p for p in range(1, max(4, image_size // 8) + 1) if image_size % p == 0)
        return RepeatChannel(models.VisionTransformer(image_size, patch, num_classes=num_classes, **_VIT))
    if name == "vgg11":
        layers = models.vgg.make_layers(models.vgg.cfgs["A"], batch_norm=True)
        for layer in layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        return RepeatChannel(_pooled(layers, 512, num_classes))
    return RepeatChannel(_pooled(_alexnet_layers(image_size), 256, num_classes))


def _alexnet_layers(image_size: int) -> nn.Sequential:
    """Return AlexNet's convolutions; below 64 pixels the first has stride 1, or no pixels would be left."""
    first = nn.Conv2d(3, 64, 11, stride=4, padding=2) if image_size >= 64 else nn.Conv2d(3, 64, 5, padding=2)
    return nn.Sequential(
        first,
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
    )


def _pooled(features: nn.Module, width: int, num_classes: int) -> nn.Module:
    return nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(width, num_classes))
