"""The lines that train from a bundle without medidistill, fitted to one recipe.

They rebuild the ConvNet, schedule and normalisation that the recipe names, from torch's own modules.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["training_code"]

_NORMS = {
    "instance": ("nn.InstanceNorm2d(width, affine=True)", "False"),
    "group": ("nn.GroupNorm(min(8, width), width)", "True"),
    "none": ("nn.Identity()", "True"),
}
_RATES = {
    "constant": 'plan["lr"]',
    "step": 'plan["lr"] * (0.1 if step >= plan["steps"] / 2 else 1)',
    "cosine": 'plan["lr"] * 0.5 * (1 + math.cos(math.pi * step / plan["steps"]))',
}
_NORMALISE = {
    "per_image": [
        "    mean = x.mean((1, 2, 3), keepdim=True)",
        "    std = x.std((1, 2, 3), keepdim=True, correction=0).clamp_min(1e-4)",
        "    x = (x - mean) / std",
    ],
    "fixed": ['    x = (x - recipe["normalisation"]["mean"]) / recipe["normalisation"]["std"]'],
    "zca": [
        '    mean, matrix = tensors["normalisation/mean"], tensors["normalisation/matrix"]',
        "    x = ((x.flatten(1) - mean) @ matrix).view_as(x)",
    ],
}


def training_code(recipe: Mapping[str, Any]) -> str:
    """Return Python source that trains `network` and defines `predict`, to be run inside the bundle."""
    norm, bias = _NORMS[recipe["architecture"]["norm"]]
    schedule = recipe["training"]["schedule"]
    lines = [
        "import json",
        *(["import math"] if schedule == "cosine" else []),
        "import torch",
        "from safetensors.torch import load_file",
        "from torch import nn",
        "",
        'recipe, tensors = json.load(open("recipe.json")), load_file("distilled.safetensors")',
        'images, targets = tensors["images"], tensors.get("soft_labels", tensors["labels"])',
        'net, plan = recipe["architecture"], recipe["training"]',
        'width, side = net["width"], net["image_size"] >> net["depth"]',
        "layers = []",
        'for block in range(net["depth"]):',
        f'    layers += [nn.Conv2d(width if block else net["channels"], width, 3, padding=1, bias={bias}),',
        f"               {norm}, nn.ReLU(), nn.AvgPool2d(2)]",
        'network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * side**2, net["num_classes"]))',
        'options = {name: plan[name] for name in ("lr", "momentum", "weight_decay")}',
        "optimizer = torch.optim.SGD(network.parameters(), **options)",
        'size, queue = min(plan["batch_size"], len(images)), torch.empty(0, dtype=torch.long)',
        'for step in range(plan["steps"]):',
        f'    optimizer.param_groups[0]["lr"] = {_RATES[schedule]}',
        "    queue = queue if len(queue) >= size else torch.randperm(len(images))",
        "    batch, queue = queue[:size], queue[size:]",
        "    loss = nn.functional.cross_entropy(network(images[batch]), targets[batch])",
        "    optimizer.zero_grad()",
        "    loss.backward()",
        "    optimizer.step()",
        "",
        "def predict(x):  # real X-rays: float (N, channels, image_size, image_size) in [0, 1]",
        *_NORMALISE[recipe["normalisation"]["kind"]],
        "    with torch.no_grad():",
        "        return network(x).softmax(dim=1)",
    ]
    return "\n".join(lines) + "\n"
