"""A network trained from a set as a MONAI bundle: `configs/`, `models/model.pt`, `docs/README.md`.

The inference configuration rebuilds the ConvNet from torch's own modules and prepares images by MONAI's transforms, so
that whoever runs the bundle needs MONAI and torch alone. It reads 8-bit PNG and JPEG files by `LoadImaged`, which
applies no VOI window: DICOM as hospitals write it is read by `Bundle.predict`.

Format: the MONAI bundle specification (https://docs.monai.io/en/stable/mb_specification.html).
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import torch
from torch import Tensor, nn

from medidistill.distilled_set import DistilledSet
from medidistill.errors import ArgumentError
from medidistill.export.folders import new_folder
from medidistill.files import write_json, write_text
from medidistill.jsontypes import JsonObject, ReadOnlyJsonObject  # configuration in MONAI's vocabulary
from medidistill.networks import ConvNet

__all__ = ["write_monai_bundle"]

_SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
_NORMS = {
    "instance": "torch.nn.InstanceNorm2d({width}, affine=True)",
    "group": "torch.nn.GroupNorm(min(8, {width}), {width})",
    "none": "torch.nn.Identity()",
}


def write_monai_bundle(
    distilled: DistilledSet,
    network: nn.Module,
    folder: Path | str,
    *,
    name: str = "",
    facts: ReadOnlyJsonObject | None = None,
) -> Path:
    """Write a trained network as a MONAI bundle into a new folder and return it.

    Args:
        distilled: the set that the network was trained from; gives classes, size and normalisation.
        network: a ConvNet, as `train()` of a ConvNet's set returns it.
        folder: new.
        name: title; empty: `chest X-ray classifier`.
        facts: `recipe.json` of the bundle, for origin, licence and privacy in the model card.

    Raises:
        ArgumentError: another network, or a normalisation (`zca`) that MONAI's transforms do not have; or the folder
            exists.
    """
    if not isinstance(network, ConvNet):
        raise ArgumentError("network", type(network).__name__, "the ConvNet that bundle.train() returns")
    if distilled.normalisation.kind == "zca":
        raise ArgumentError("normalisation", "'zca'", "'per_image' or 'fixed', which MONAI's transforms can do")
    title, told = name or "chest X-ray classifier", dict(facts or {})
    with new_folder(folder) as place:
        for part in ("configs", "models", "docs"):
            (place / part).mkdir()
        write_json(place / "configs" / "metadata.json", _metadata(distilled, title))
        write_json(place / "configs" / "inference.json", _inference(distilled, network))
        torch.save(_plain_weights(network), place / "models" / "model.pt")
        write_text(place / "docs" / "README.md", _card(distilled, title, told))
    return Path(folder)


def _layers(network: ConvNet) -> list[str]:
    """Return the expressions that build the network from torch's modules, in order."""
    layers: list[str] = []
    for module in network.features:
        if isinstance(module, nn.Conv2d):
            inputs, width = module.in_channels, module.out_channels
            bias = module.bias is not None
            layers.append(f"torch.nn.Conv2d({inputs}, {width}, 3, padding=1, bias={bias})")
            layers += [_NORMS[network.norm].format(width=width), "torch.nn.ReLU()", "torch.nn.AvgPool2d(2)"]
    head = network.classifier
    return [*layers, "torch.nn.Flatten()", f"torch.nn.Linear({head.in_features}, {head.out_features})"]


def _plain_weights(network: ConvNet) -> dict[str, Tensor]:
    """Return the weights by the names of a plain `nn.Sequential`."""
    last = len(network.features) + 1  # behind Flatten
    weights = {}
    for name, value in network.state_dict().items():
        part, _, rest = name.partition(".")
        weights[rest if part == "features" else f"{last}.{rest}"] = value.detach().cpu().clone()
    return weights


def _inference(distilled: DistilledSet, network: ConvNet) -> JsonObject:
    side = distilled.images.shape[-1]
    normalise: JsonObject = {"_target_": "NormalizeIntensityd", "keys": "image"}
    if distilled.normalisation.kind == "fixed":
        normalise |= {"subtrahend": distilled.normalisation.mean, "divisor": distilled.normalisation.std}
    return {
        "imports": ["$import glob", "$import torch", "$import numpy"],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/images'",
        "output_dir": "$@bundle_root + '/eval'",
        "datalist": "$sorted(glob.glob(@dataset_dir + '/*'))",
        "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "class_names": list(distilled.class_names),
        "network_def": f"$torch.nn.Sequential({', '.join(_layers(network))})",
        "network": "$@network_def.to(@device)",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "LoadImaged", "keys": "image", "image_only": True},
                {"_target_": "EnsureChannelFirstd", "keys": "image"},
                # PNG and JPEG are read with the axes of medical volumes, first the column
                {"_target_": "Transposed", "keys": "image", "indices": [0, 2, 1]},
                {"_target_": "Lambdad", "keys": "image", "func": "$lambda x: x.float().mean(0, keepdim=True)"},
                {
                    "_target_": "ScaleIntensityRanged",
                    "keys": "image",
                    "a_min": 0,
                    "a_max": 255,
                    "b_min": 0.0,
                    "b_max": 1.0,
                },
                {
                    "_target_": "Lambdad",
                    "keys": "image",
                    "func": "$lambda x: x[:, (x.shape[1] - min(x.shape[1:])) // 2:]"
                    "[:, :min(x.shape[1:])][..., (x.shape[2] - min(x.shape[1:])) // 2:][..., :min(x.shape[1:])]",
                },
                {"_target_": "Resized", "keys": "image", "spatial_size": [side, side], "mode": "area"},
                normalise,
                {"_target_": "EnsureTyped", "keys": "image", "track_meta": False},
            ],
        },
        "dataset": {
            "_target_": "Dataset",
            "data": "$[{'image': one} for one in @datalist]",
            "transform": "@preprocessing",
        },
        "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 16, "num_workers": 0},
        "checkpoint": "$torch.load(@bundle_root + '/models/model.pt', map_location=@device, weights_only=True)",
        "inferer": {"_target_": "SimpleInferer"},
        "initialize": ["$@network.load_state_dict(@checkpoint)", "$@network.eval()"],
        "predictions": "$torch.cat([@inferer(one['image'].to(@device), @network).detach().softmax(1).cpu() "
        "for one in @dataloader])",
        "run": ["$print([@class_names[k] for k in @predictions.argmax(1).tolist()])"],
    }


def _metadata(distilled: DistilledSet, title: str) -> JsonObject:
    _, channels, side, _ = distilled.images.shape
    classes = {str(number): name for number, name in enumerate(distilled.class_names)}
    image = {"type": "image", "format": "magnitude", "modality": "XR", "num_channels": channels}
    return {
        "schema": _SCHEMA,
        "version": "1.0.0",
        "changelog": {"1.0.0": "trained from a distilled set"},
        "monai_version": _version("monai"),
        "pytorch_version": _version("torch"),
        "numpy_version": _version("numpy"),
        "required_packages_version": {},
        "name": title,
        "task": "classification of frontal chest X-rays",
        "description": f"A ConvNet trained from {len(distilled)} distilled images. Research use, not for diagnosis.",
        "authors": "the publisher of the distilled set",
        "copyright": "see docs/README.md",
        "data_source": "synthetic images made by dataset distillation",
        "data_type": "png",
        "image_classes": "frontal chest X-ray, one channel, air dark and bone bright",
        "label_classes": ", ".join(distilled.class_names),
        "pred_classes": "logits, one a class",
        "intended_use": "research, not for diagnosis",
        "network_data_format": {
            "inputs": {
                "image": image
                | {
                    "spatial_shape": [side, side],
                    "dtype": "float32",
                    "value_range": [-10, 10],
                    "is_patch_data": False,
                    "channel_def": {"0": "X-ray"} if channels == 1 else {str(c): "X-ray" for c in range(channels)},
                }
            },
            "outputs": {
                "pred": {
                    "type": "probabilities",
                    "format": "classes",
                    "num_channels": len(classes),
                    "spatial_shape": [],
                    "dtype": "float32",
                    "value_range": [],
                    "is_patch_data": False,
                    "channel_def": classes,
                }
            },
        },
    }


def _card(distilled: DistilledSet, title: str, facts: ReadOnlyJsonObject) -> str:
    privacy = facts.get("privacy", {}).get("statement", "No audit was made: no attack was measured.")
    licence = facts.get("licence", {}).get("identifier", "unknown")
    notice = str(facts.get("notice", ""))
    caution = [f"**{notice}**", ""] if notice else []
    return "\n".join(
        [
            f"# {title}",
            "",
            f"A ConvNet for {len(distilled.class_names)} classes ({', '.join(distilled.class_names)}), trained from "
            f"{len(distilled)} distilled images made by {distilled.recipe.get('method', 'an unknown method')} from "
            f"{distilled.recipe.get('init', 'unknown')}. Research use, not for diagnosis.",
            "",
            *caution,
            f"Privacy of the set it was trained from: {privacy} This network was trained on no other image.",
            "",
            f"Licence of the set: {licence}.",
            "",
            "Run it on a folder of PNG or JPEG files, inside this folder:",
            "",
            "    python -m monai.bundle run --config_file configs/inference.json --meta_file configs/metadata.json "
            "--dataset_dir IMAGES",
            "",
        ]
    )


def _version(package: str) -> str:
    try:
        return metadata.version(package).partition("+")[0]
    except metadata.PackageNotFoundError:
        return ""
