"""The lines that train from a bundle without medidistill, fitted to one recipe.

They rebuild the ConvNet, schedule and normalisation that the recipe names, from torch's own modules.
"""

from __future__ import annotations

from medidistill.jsontypes import ReadOnlyJsonObject  # a recipe of any version, checked by its schema

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
    "one_cycle": "rate(step)",
}
_OPTIMISERS = {
    "sgd": 'torch.optim.SGD(weights, plan["lr"], plan["momentum"], weight_decay=plan["weight_decay"])',
    "adamw": 'torch.optim.AdamW(weights, plan["lr"], weight_decay=plan["weight_decay"])',
}
_AUGMENT = [
    "def augmented(x):",
    '    strength, u = plan["augment"], torch.rand(len(x), 6) * 2 - 1',
    '    zoom, angle = (1 + strength["scale"]) ** u[:, 0], math.radians(strength["rotate"]) * u[:, 1]',
    '    cos, sin, shift = torch.cos(angle) / zoom, torch.sin(angle) / zoom, 2 * strength["shift"] * u[:, 2:4]',
    "    maps = torch.stack([cos, -sin, shift[:, 0], sin, cos, shift[:, 1]], dim=1).view(-1, 2, 3)",
    "    grid = nn.functional.affine_grid(maps, list(x.shape), align_corners=False)",
    '    x = nn.functional.grid_sample(x, grid, padding_mode="border", align_corners=False)',
    "    mean, last = x.mean((1, 2, 3), keepdim=True), (len(x), 1, 1, 1)",
    '    x = (x - mean) * ((1 + strength["contrast"]) ** u[:, 4]).view(last) + mean',
    '    return x + (strength["brightness"] * u[:, 5]).view(last)',
    "",
]
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


_AMPLITUDES = (
    'count, channels, side, _ = recipe["storage"]["shape"]',
    'bits, steps = tensors["packed/bits"].flatten().long(), tensors["packed/steps"].flatten()',
    'stream = (tensors["packed/codes"][:, None] >> torch.arange(8) & 1).flatten()',
    "stream = stream[: count * channels * int(bits.sum())].view(count * channels, -1).long()",
    "used, ends = bits.nonzero().flatten(), bits.cumsum(0)",
    "amplitudes = torch.zeros(count * channels, side**2)",
    "for k in used.tolist():  # the bits of one frequency in all images, the lowest first",
    "    code = (stream[:, ends[k] - bits[k] : ends[k]] << torch.arange(int(bits[k]))).sum(1)",
    "    amplitudes[:, k] = (code + 0.5 - 2.0 ** (bits[k] - 1)) * steps[k]",
    'dct = tensors["packed/matrix"]',
    "images = dct.T @ amplitudes.view(count, channels, side, side) @ dct",
)


def _images(storage: ReadOnlyJsonObject | None) -> list[str]:
    """Return the lines that define `images` (N, C, H, W); bundles of older formats do not say how they are stored."""
    if storage is None or not storage["packed"]:
        return ['images = tensors["images"]']
    if storage["decoder"] == "spectral":
        return list(_AMPLITUDES)
    if storage["bits"] == 32:
        values = ['stored = tensors["packed/codes"]']
    else:
        values = ['storage, codes = recipe["storage"], tensors["packed/codes"]']
        if storage["bits"] < 8:
            mask = 2 ** storage["bits"] - 1
            values += [
                f"codes = torch.stack([codes >> bit & {mask} for bit in range(0, 8, {storage['bits']})], dim=1)",
                'codes = codes.flatten()[: math.prod(storage["shape"])].view(storage["shape"])',
            ]
        values += ['stored = storage["offset"] + storage["step"] * codes.float()']
    return [*values, 'images = tensors["packed/matrix"] @ stored @ tensors["packed/matrix"].T']


def _targets(storage: ReadOnlyJsonObject | None) -> str:
    """Return the line that defines `targets`, classes (N,) or probabilities (N, K)."""
    if storage is not None and storage.get("label_bits") == 8:
        return 'targets = tensors["soft_labels"].float() / 255'
    return 'targets = tensors.get("soft_labels", tensors["labels"])'


def is_augmented(recipe: ReadOnlyJsonObject) -> bool:
    """Whether the lines augment as the recipe does: they know all of it but erased squares and flips."""
    return any(recipe["training"]["augment"].values())


def training_code(recipe: ReadOnlyJsonObject) -> str:
    """Return Python source that trains `network` and defines `predict`, to be run inside the bundle."""
    norm, bias = _NORMS[recipe["architecture"]["norm"]]
    plan = recipe["training"]
    schedule, augmented = plan["schedule"], is_augmented(recipe)
    rate = []
    if schedule == "one_cycle":
        rate = [
            'rising = max(1, round(0.3 * plan["steps"]))',
            "def rate(step):  # up to the rate of the plan, then down to 0",
            '    down = math.pi * max(0, step - rising) / max(1, plan["steps"] - rising)',
            '    return plan["lr"] * min((step + 1) / rising, 0.5 + 0.5 * math.cos(down))',
        ]
    images = _images(recipe.get("storage"))
    body = [
        *images,
        _targets(recipe.get("storage")),
        'net, plan = recipe["architecture"], recipe["training"]',
        'width, side = net["width"], net["image_size"] >> net["depth"]',
        "layers = []",
        'for block in range(net["depth"]):',
        f'    layers += [nn.Conv2d(width if block else net["channels"], width, 3, padding=1, bias={bias}),',
        f"               {norm}, nn.ReLU(), nn.AvgPool2d(2)]",
        'network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * side**2, net["num_classes"]))',
        *(["", *_AUGMENT] if augmented else []),
        "weights = network.parameters()",
        f"optimizer = {_OPTIMISERS[plan.get('optimizer', 'sgd')]}",
        *rate,
        'size, queue = min(plan["batch_size"], len(images)), torch.empty(0, dtype=torch.long)',
        'for step in range(plan["steps"]):',
        f'    optimizer.param_groups[0]["lr"] = {_RATES[schedule]}',
        "    queue = queue if len(queue) >= size else torch.randperm(len(images))",
        "    batch, queue = queue[:size], queue[size:]",
        f"    output = network({'augmented(images[batch])' if augmented else 'images[batch]'})",
        "    loss = nn.functional.cross_entropy(output, targets[batch])",
        "    optimizer.zero_grad()",
        "    loss.backward()",
        "    optimizer.step()",
        "",
        "def predict(x):  # real X-rays: float (N, channels, image_size, image_size) in [0, 1]",
        *_NORMALISE[recipe["normalisation"]["kind"]],
        "    with torch.no_grad():",
        "        return network(x).softmax(dim=1)",
    ]
    head = [
        "import json",
        *(["import math"] if any("math." in line for line in body) else []),
        "import torch",
        "from safetensors.torch import load_file",
        "from torch import nn",
        "",
        'recipe, tensors = json.load(open("recipe.json")), load_file("distilled.safetensors")',
    ]
    return "\n".join([*head, *body]) + "\n"
