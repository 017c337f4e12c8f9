"""The dataset card: what the set is, what it is worth, how to train from it, what it does not promise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medidistill.export.plain import training_code

__all__ = ["card_text"]

_METHODS = {
    "iadd": "importance-aware adaptive dataset distillation (IADD; a reconstruction of arXiv 2401.15863)",
    "mtt": "matching training trajectories (MTT; arXiv 2203.11932)",
    "bptt": "truncated back-propagation through a student's training (as RaT-BPTT; arXiv 2310.04189)",
}

_REAL_START = """> **init: real. Every image of this set began as a copy of a patient's X-ray, and may still show it.**
> In a measurement on chest X-rays at 32 pixels, 98 % of the images made this way still had their own source as the
> nearest training image, and a distance test passed them all the same. Handle this bundle as patient data: do not
> publish it.

"""

_PRIVACY = """## What this does not promise

- The images are synthetic. **They carry no formal guarantee of privacy**: no mechanism such as differential privacy
  was used, and distillation alone gives none.
- **No attack has been measured on this set yet**: neither membership inference nor memorisation. Absence of a
  measurement is no evidence of safety, and the set must not be called anonymous.
- Whoever passes it on decides under the rules that hold for the patients' data it was made from.
- Research use only, **not for diagnosis**.
"""


def card_text(recipe: Mapping[str, Any], npz_name: str, comparison: Mapping[str, Any] | None, notice: str) -> str:
    """Return the card in Markdown, with the front matter that Hugging Face reads."""
    front = (
        "---\n"
        "task_categories: [image-classification]\n"
        "tags: [synthetic, dataset-distillation, chest-x-ray]\n"
        'configs: [{config_name: default, data_files: "png/*"}]\n'
        "---\n"
    )
    warning = _REAL_START if recipe["init"] == "real" else ""
    parts = [
        f"# {recipe['name']}\n\n{warning}{_what(recipe)}",
        f"## What it is worth\n\n{_worth(comparison, notice)}",
        _how(recipe),
        _files(npz_name),
        _PRIVACY,
    ]
    return front + "\n" + "\n".join(parts)


def _what(recipe: Mapping[str, Any]) -> str:
    net = recipe["architecture"]
    shape = f"{net['image_size']} x {net['image_size']} pixels, {net['channels']} channel(s)"
    start = "noise" if recipe["init"] == "noise" else "real images (init: real)"
    method = _METHODS.get(recipe["method"], recipe["method"])
    return (
        f"{recipe['images']} synthetic chest X-rays ({shape}) in {len(recipe['classes'])} classes: "
        f"{', '.join(recipe['classes'])}.\nThey were not acquired from a patient: they were optimised, starting from "
        f"{start}, by {method},\nso that a network trained on them moves as one trained on the real images does. "
        f"Labels: {recipe['labels']}. Learned rate alpha: {recipe['alpha']:.4g}.\n"
    )


def _worth(comparison: Mapping[str, Any] | None, notice: str) -> str:
    caution = f"\n**{notice.strip()}**\n" if notice.strip() else ""
    if comparison is None:
        return f"Not evaluated: nothing is known about networks trained on this set.\n{caution}"
    lines = ["| trained on | network | images | balanced accuracy | macro AUROC |", "|---|---|---|---|---|"]
    lines += [
        f"| {row['arm']} | {row['architecture']} | {row['training_images']} "
        f"| {_interval(row['balanced_accuracy'])} | {_interval(row['macro_auroc'])} |"
        for row in comparison["rows"]
    ]
    lines += [
        "",
        f"Mean over fresh networks on the test split, {comparison['test_images']} images of "
        f"{comparison['test_patients']} patients that no choice was made on; "
        f"in brackets {100 * comparison['confidence']:g} % intervals.",
        *(f"- {note}" for note in comparison["notes"]),
    ]
    return "\n".join(lines) + "\n" + caution


def _interval(value: Mapping[str, float]) -> str:
    return f"{value['estimate']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"


def _how(recipe: Mapping[str, Any]) -> str:
    remarks = []
    if recipe["architecture"]["name"] != "convnet":
        remarks.append(f"The set was distilled with {recipe['architecture']['name']}; these lines train a ConvNet.")
    if any(recipe["training"]["augment"].values()):
        remarks.append("The recipe also augments each batch (`training.augment`), which these lines leave out.")
    hints = "".join(f"{remark}\n" for remark in remarks)
    side = recipe["architecture"]["image_size"]
    return f"""## How to train from it

With PyTorch and safetensors alone, run inside this folder:

```python
{training_code(recipe)}```

{hints}With medidistill: `medidistill.train_on_distilled(medidistill.load(folder))`.
What `predict` sees must be a frontal X-ray resized to {side} x {side}, air dark and bone bright, scaled to [0, 1].
"""


def _files(npz_name: str) -> str:
    return f"""## Files

| file | what |
|---|---|
| `distilled.safetensors` | `images` float32, normalised already; `labels` int64; `soft_labels` where learned |
| `recipe.json` | classes, normalisation, architecture, training, how the set was made, versions, digests |
| `png/` | 8-bit copies to look at, with `metadata.csv` (Hugging Face imagefolder) |
| `{npz_name}` | the same copies under MedMNIST's keys |
| `SHA256SUMS` | `sha256sum -c SHA256SUMS` checks that nothing was changed |

The 8-bit copies are rounded and clipped; train from `distilled.safetensors`.
"""
