"""The dataset card: what the set is, what it is worth, how to train from it, what it does not promise."""

from __future__ import annotations

import json

from medidistill.config import METHODS
from medidistill.export.card_privacy import privacy_text
from medidistill.export.card_verdict import verdict_text
from medidistill.export.plain import training_code
from medidistill.export.recipe import steps_behind
from medidistill.jsontypes import ReadOnlyJsonObject  # a recipe of any version, checked by its schema
from medidistill.results.bundle import BundleEvaluation
from medidistill.results.privacy_section import PrivacySection
from medidistill.results.serialise import from_json
from medidistill.results.verdict import Verdict
from medidistill.textio import interval_text, markdown_table
from medidistill.words import row_words, start_words

__all__ = ["card_text"]

_TITLES = {name: method.title for name, method in METHODS.items()}
_TITLES["merged"] = "different methods, named under *Where it comes from*"

_REAL_START = """> **init: real. Every image of this set began as a copy of a patient's X-ray, and may still show it.**
> In a measurement on chest X-rays at 32 pixels, 98 % of the images made this way still had their own source as the
> nearest training image, and a distance test passed them all the same. Handle this bundle as patient data: do not
> publish it.

"""


def card_text(recipe: ReadOnlyJsonObject, npz_name: str) -> str:
    """Return the card in Markdown, with the front matter that Hugging Face reads."""
    front = _front_matter(recipe)
    warning = _REAL_START if recipe["init"] == "real" else ""
    parts = [
        f"# {recipe['name']}\n\n{warning}{_what(recipe)}",
        verdict_text(None if recipe.get("verdict") is None else Verdict.from_dict(recipe["verdict"])),
        f"## What it is worth\n\n{_worth(_evaluation(recipe), recipe['notice'], len(recipe['classes']))}",
        _how(recipe),
        _files(recipe, npz_name),
        _origin(recipe),
        privacy_text(from_json(PrivacySection, recipe["privacy"], "the privacy section of a bundle")),
    ]
    return front + "\n" + "\n".join(parts)


def _evaluation(recipe: ReadOnlyJsonObject) -> BundleEvaluation | None:
    stored = recipe["evaluation"]
    return None if stored is None else from_json(BundleEvaluation, stored, "the evaluation of a bundle")


def _front_matter(recipe: ReadOnlyJsonObject) -> str:
    """Return what Hugging Face reads of the card: licence, size, and labels as a `ClassLabel` in label order."""
    names = "".join(f"          {json.dumps(str(k))}: {json.dumps(name)}\n" for k, name in enumerate(recipe["classes"]))
    features = (
        f"  - name: image\n    dtype: image\n  - name: label\n    dtype:\n      class_label:\n        names:\n{names}"
    )
    return (
        "---\n"
        f"license: {recipe['licence']['identifier'].lower()}\n"
        f"pretty_name: {json.dumps(recipe['name'])}\n"
        "task_categories: [image-classification]\n"
        f"size_categories: [{_size_category(recipe['images'])}]\n"
        "tags: [synthetic, dataset-distillation, chest-x-ray, medical]\n"
        "configs:\n"
        "- config_name: default\n"
        '  data_files: [{split: train, path: "png/*"}]\n'
        f"  features:\n{features}"
        f"dataset_info:\n  features:\n{features}"
        "---\n"
    )


def _size_category(images: int) -> str:
    """Return the size of a data set as Hugging Face names it."""
    limits = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
    return next((name for limit, name in limits if images < limit), "n>1M")


def _what(recipe: ReadOnlyJsonObject) -> str:
    net = recipe["architecture"]
    shape = f"{net['image_size']} x {net['image_size']} pixels, {net['channels']} channel(s)"
    start = start_words(recipe["init"]) or "real images (init: real)"
    method = _TITLES.get(recipe["method"], recipe["method"])
    storage = recipe.get("storage", {"packed": False})
    packed = f"Stored in {storage['bytes']} bytes, from which all images are decoded. " if storage["packed"] else ""
    made = (
        f"they are {method}"
        if steps_behind(recipe["distillation"]) == 0
        else f"they were optimised, starting from {start}, by {method},\n"
        "so that a network trained on them moves as one trained on the real images does"
    )
    return (
        f"{recipe['images']} synthetic chest X-rays ({shape}) in {len(recipe['classes'])} classes: "
        f"{', '.join(recipe['classes'])}.\nThey were not acquired from a patient: {made}. "
        f"{packed}Labels: {recipe['labels']}. Learned rate alpha: {recipe['alpha']:.4g}.\n"
    )


def _worth(evaluation: BundleEvaluation | None, notice: str, classes: int) -> str:
    caution = f"\n**{notice}**\n" if notice else ""
    if evaluation is None:
        return f"Not evaluated: nothing is known about networks trained on this set.\n{caution}"
    rows = [
        [
            row_words(row, classes),
            row.architecture,
            str(row.training_images),
            interval_text(row.balanced_accuracy),
            interval_text(row.macro_auroc),
        ]
        for row in evaluation.rows
    ]
    lines = [
        *markdown_table(["trained on", "network", "images", "balanced accuracy", "macro AUROC"], rows),
        "",
        f"Mean over fresh networks on the test split, {evaluation.test_images} images of "
        f"{evaluation.test_patients} patients that no choice was made on; "
        f"in brackets {100 * evaluation.confidence:g} % intervals.",
        *(f"- {note}" for note in evaluation.notes),
    ]
    return "\n".join(lines) + "\n" + caution


def _how(recipe: ReadOnlyJsonObject) -> str:
    remarks = []
    if recipe["architecture"]["name"] != "convnet":
        remarks.append(f"The set was distilled with {recipe['architecture']['name']}; these lines train a ConvNet.")
    augment = recipe["training"]["augment"]
    if augment.get("cutout") or augment.get("flip"):
        remarks.append("The recipe also erases squares or flips images (`training.augment`); these lines do not.")
    hints = "".join(f"{remark}\n" for remark in remarks)
    side = recipe["architecture"]["image_size"]
    return f"""## How to train from it

With PyTorch and safetensors alone, run inside this folder:

```python
{training_code(recipe)}```

{hints}With medidistill: `medidistill.load(folder).train()`, or `medidistill train FOLDER`.
What `predict` sees must be a frontal X-ray resized to {side} x {side}, air dark and bone bright, scaled to [0, 1].
"""


def _stored(recipe: ReadOnlyJsonObject) -> str:
    """Return how the images lie in the tensor file, normalised in every case."""
    storage = recipe.get("storage", {"packed": False})
    if not storage["packed"]:
        return "`images` float32, normalised already"
    if storage["decoder"] == "spectral":
        return (
            "`packed/codes`, DCT amplitudes in a stream of bits, `packed/bits` and `packed/steps` of each frequency, "
            "and `packed/matrix`, which decodes them; normalised already"
        )
    side = storage["shape"][-1]
    return (
        f"`packed/codes`, {side} x {side} values of {storage['bits']} bits an image, and `packed/matrix`, which "
        "decodes them; normalised already"
    )


def _files(recipe: ReadOnlyJsonObject, npz_name: str) -> str:
    return f"""## Files

| file | what |
|---|---|
| `distilled.safetensors` | {_stored(recipe)}; `labels` int64; `soft_labels` where learned or given by experts |
| `recipe.json` | classes, normalisation, architecture, training, evaluation, sources, privacy, versions, digests |
| `png/` | 8-bit copies to look at, with `metadata.csv` (Hugging Face imagefolder) |
| `{npz_name}` | the same copies under MedMNIST's keys |
| `dicom/` | DICOM Secondary Capture, marked as synthetic; 16 bits where there is one channel |
| `croissant.json` | the same facts in the MLCommons Croissant vocabulary |
| `SHA256SUMS` | `sha256sum -c SHA256SUMS` checks that nothing was changed; `SHA256SUMS.sig`, if there: Ed25519 |

The 8-bit copies are rounded and clipped; train from `distilled.safetensors`.
"""


def _origin(recipe: ReadOnlyJsonObject) -> str:
    licence = recipe["licence"]
    use = {True: "not excluded by a source", False: "**no commercial use**", None: "not settled by what is stated"}
    lines = [
        "## Where it comes from",
        "",
        f"Licence: {licence['identifier']}. {licence['reason']} Commercial use: {use[licence['commercial']]}.",
        "The set is treated as an adaptation of every source; this is no legal advice.",
    ]
    if recipe["sources"]:
        keys = ("name", "licence", "url", "citation")
        rows = [[one[key] or "not stated" for key in keys] for one in recipe["sources"]]
        lines += ["", *markdown_table(["source", "licence", "where", "cite"], rows)]
    if recipe["merged_from"]:
        lines += ["", "Put together from these bundles, verified then:", ""]
        head = ["bundle", "images", "method, start", "SHA256SUMS", "privacy"]
        lines += markdown_table(head, [_part(part) for part in recipe["merged_from"]])
    digests = ", ".join(f"{stage} `{value}`" for stage, value in recipe["digests"]["stages"].items())
    lines += [
        "",
        f"Made on {recipe['created']}; configuration `{recipe['digests']['config']}`; {digests or 'no stages'}.",
    ]
    return "\n".join(lines) + "\n"


def _part(part: ReadOnlyJsonObject) -> list[str]:
    told = part["recipe"]
    privacy = told.get("privacy", {}).get("statement", "nothing stated")
    return [
        part["name"],
        str(told["images"]),
        f"{told['method']}, {told['init']}",
        f"`{part['sha256sums'][:16]}`",
        privacy,
    ]
