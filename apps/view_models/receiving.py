"""What the receiving hospital does with a bundle: confirm the sender, train a network, test it on images of its own."""

from __future__ import annotations

import hmac
import re
import shutil
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import pandas as pd

from medidistill.errors import ConfigError, IngestError, MedidistillError
from medidistill.export import examine
from medidistill.files import read_json, sha256_file, write_json
from medidistill.jsontypes import ReadOnlyJsonObject  # a recipe of any version, checked by its schema
from medidistill.results.bundle import BundleEvaluation
from medidistill.results.comparison import Comparison
from medidistill.results.serialise import from_json
from medidistill.statistics import Interval
from medidistill.textio import interval_text
from medidistill.words import row_words
from view_models.bundles import BundleView
from view_models.jobs import Job, start
from view_models.places import Places, short_id

__all__ = [
    "Sender",
    "Standing",
    "Training",
    "confirm_number",
    "confirm_signature",
    "forget_trainings",
    "own_answer",
    "own_table",
    "sender_table",
    "standing",
    "start_training",
    "training",
]

_OWN = "own X-rays"  # arm of `medidistill train --baseline`
_DIGITS = 64  # of a SHA-256


class Sender(StrEnum):
    """What is known of who made a bundle."""

    CHANGED = "changed"  # a file differs from the checksums
    UNCONFIRMED = "unconfirmed"  # complete, but whoever changed it could have rewritten the checksums, too
    CONFIRMED = "confirmed"


@dataclass(frozen=True)
class Standing:
    """Whether a bundle is complete, and whether it is the sender's.

    Args:
        sender: what is known.
        words: the finding in a sentence.
    """

    sender: Sender
    words: str


def standing(places: Places, bundle: BundleView) -> Standing:
    """Return how a bundle stands. Checksums alone prove nothing about who wrote them."""
    if bundle.error or bundle.problems:
        return Standing(Sender.CHANGED, "This bundle is not as it was written. Do not train from it; ask for it again.")
    how = _confirmed(places).get(bundle.digest, "")
    if how:
        return Standing(Sender.CONFIRMED, f"Complete, and the sender's: {how}.")
    return Standing(
        Sender.UNCONFIRMED,
        f"Complete; sender not confirmed. Every one of {len(bundle.files)} files agrees with the checksums in the "
        "bundle, and whoever changed a file could have rewritten those, too.",
    )


def confirm_number(places: Places, bundle: BundleView, number: str) -> None:
    """Keep that the number which the sender told over another way is that of the bundle.

    Raises:
        ConfigError: it is another number, or none.
    """
    told = re.sub(r"[^0-9a-f]", "", number.lower())
    if len(told) != _DIGITS:
        raise ConfigError(f"the number has {_DIGITS} digits and letters a to f; these are {len(told)}")
    if not bundle.digest or not hmac.compare_digest(told, bundle.digest):
        raise ConfigError(
            "this is not the number of this bundle: it is another bundle, or it was changed on its way. Do not train "
            "from it; ask the sender"
        )
    _confirm(places, bundle, "its number is the one that the sender told")


def confirm_signature(places: Places, bundle: BundleView, key: bytes) -> None:
    """Keep that a bundle was signed by a key that came over another way.

    Args:
        places: where jobs are kept.
        bundle: the bundle.
        key: Ed25519 public key in PEM.

    Raises:
        ConfigError: no such key, no signature, or one by another key.
    """
    folder = places.jobs / "keys"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = folder / f"{short_id(key.hex())}.pub"
    file.write_bytes(key)
    try:
        found = examine(bundle.path, public_key=file)
    except ConfigError as error:
        file.unlink(missing_ok=True)
        raise ConfigError(str(error).replace(str(file), "this file")) from error
    if found.problems:
        raise ConfigError("; ".join(problem.replace(f"{bundle.path}/", "") for problem in found.problems))
    signed = next((note for note in found.notes if note.startswith("signed by the key")), "")
    if not signed:
        raise ConfigError("the bundle is not signed")
    _confirm(places, bundle, signed)


def _confirmations(places: Places) -> Path:
    return places.jobs / "confirmed.json"


def _confirmed(places: Places) -> dict[str, str]:
    file = _confirmations(places)
    try:
        told = read_json(file) if file.is_file() else {}
    except IngestError:
        told = {}
    return {str(key): str(value) for key, value in told.items()} if isinstance(told, dict) else {}


def _confirm(places: Places, bundle: BundleView, how: str) -> None:
    places.jobs.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_json(_confirmations(places), _confirmed(places) | {bundle.digest: how}, mode=0o600)


@dataclass(frozen=True)
class Training:
    """How a training from a bundle stands.

    Args:
        job: its process.
        network: the file of the weights.
        state: `none`, `running`, `failed` or `completed`.
        error: why it failed.
        scores: the comparison on own images, as `medidistill train --scores` writes it; empty without own images.
        tested: name of the folder that was tested on; empty without own images.
    """

    job: Job
    network: Path
    state: str
    error: str = ""
    scores: Comparison | None = None
    tested: str = ""


def training(places: Places, bundle: Path) -> Training:
    """Return how the last training from a bundle stands; another bundle in the same folder has had none."""
    sums = bundle / "SHA256SUMS"
    key = short_id(f"{bundle.resolve()} {sha256_file(sums) if sums.is_file() else ''}")
    job, network = Job(places.jobs / f"train-{key}"), places.runs / "networks" / f"{key}.safetensors"
    if not job.exists:
        return Training(job, network, "none")
    if job.is_running():
        return Training(job, network, "running")
    if job.error():
        return Training(job, network, "failed", job.error())
    scores = None
    try:
        scores = Comparison.from_dict(read_json(_scores(job))) if _scores(job).is_file() else None
    except MedidistillError:
        scores = None
    said = job.arguments
    tested = Path(said[said.index("--test") + 1]).name if "--test" in said else ""
    return Training(job, network, "completed", scores=scores, tested=tested)


def forget_trainings(places: Places, folder: Path) -> None:
    """Delete what trainings from the bundles in a folder left, networks included.

    Raises:
        ConfigError: one of them is at work.
    """
    found = [Job(one) for one in places.jobs.glob("train-*")]
    own = [job for job in found if len(job.arguments) > 1 and Path(job.arguments[1]).is_relative_to(folder)]
    if any(job.is_running() for job in own):
        raise ConfigError("a training from this bundle is at work; stop it first")
    for job in own:
        network = f"{job.folder.name.removeprefix('train-')}.safetensors"
        (places.runs / "networks" / network).unlink(missing_ok=True)
        shutil.rmtree(job.folder, ignore_errors=True)


def _scores(job: Job) -> Path:
    return job.folder / "scores.json"


def start_training(
    places: Places, bundle: Path, test: Path | None, networks: int = 5, *, baseline: bool = False
) -> Training:
    """Train a fresh network from a bundle; with `test`, score networks on labelled X-rays too.

    The weights of an earlier training are replaced. Raises `ConfigError` while one is at work.

    Args:
        places: where jobs are kept.
        bundle: its folder.
        test: labelled X-rays; None: the network is trained, and nothing is scored.
        networks: that are scored.
        baseline: train networks on part of the own X-rays, too.
    """
    found = training(places, bundle)
    if found.state == "running":
        raise ConfigError("a training from this bundle is at work already")
    found.network.parent.mkdir(exist_ok=True)
    found.network.unlink(missing_ok=True)
    _scores(found.job).unlink(missing_ok=True)
    arguments = ["train", str(bundle), "--output", str(found.network)]
    if test is not None:
        arguments += ["--test", str(test), "--networks", str(networks), "--scores", str(_scores(found.job))]
        arguments += ["--baseline"] if baseline else []
    start(found.job.folder, arguments)
    return training(places, bundle)


def own_table(scores: Comparison) -> pd.DataFrame:
    """Return what networks reach on own images: one row an arm."""
    return pd.DataFrame(
        [
            {
                "trained on": "part of your own X-rays" if row.arm == _OWN else "this bundle",
                "images": row.training_images,
                "networks": row.networks,
                "balanced accuracy": interval_text(row.balanced_accuracy),
                "macro AUROC": interval_text(row.macro_auroc),
            }
            for row in scores.rows
        ]
    )


def sender_table(recipe: ReadOnlyJsonObject) -> pd.DataFrame:
    """Return what the card says of the sender's own patients; empty where it says nothing that can be read."""
    told, classes = recipe.get("evaluation"), recipe.get("classes")
    if not isinstance(told, dict) or not isinstance(classes, list):
        return pd.DataFrame()
    try:
        evaluation = from_json(BundleEvaluation, told, "the evaluation of a bundle")
    except ConfigError:
        return pd.DataFrame()
    return pd.DataFrame(
        [
            {
                "trained on": row_words(row, len(classes)),
                "images": row.training_images,
                "balanced accuracy": interval_text(row.balanced_accuracy),
                "macro AUROC": interval_text(row.macro_auroc),
            }
            for row in evaluation.rows
        ]
    )


def own_answer(scores: Comparison) -> tuple[str, str]:
    """Return (tone, sentence): what the own test says. Tones are `good`, `bad` and `open`.

    With a baseline, the paired difference in balanced accuracy decides, by whether its interval holds zero; without
    one there is nothing to compare with but chance.
    """
    chance = 1 / len(scores.class_names)
    rows = {row.arm: row for row in scores.rows}
    bundle = next(row for arm, row in rows.items() if arm != _OWN)
    reached = bundle.balanced_accuracy
    counted = f"{scores.test_images} images of {scores.test_patients} patients"
    if _OWN in rows:
        gap = _difference(scores, bundle.arm)
        if gap is None:
            return "open", f"Tested on {counted}. The difference to networks trained on your own X-rays is not defined."
        said = interval_text(gap, sign="+")
        begins = f"On {counted}, networks trained on the bundle differ in balanced accuracy by {said} from networks "
        begins += "trained on part of your own X-rays: "
        if gap.low > 0:
            return "good", begins + "they are better for your patients."
        if gap.high < 0:
            return "bad", begins + "they are worse. Train on your own X-rays, or on both."
        return "open", begins + "these patients do not decide which is better."
    text = f"On {counted}, networks trained on the bundle reach a balanced accuracy of {interval_text(reached)}; "
    text += f"chance is {chance:.2f}. "
    if reached.low > chance:
        return "open", text + "That is more than chance. Whether your own X-rays teach more was not asked."
    return "bad", text + "That is not shown to be more than chance."


def _difference(scores: Comparison, arm: str) -> Interval | None:
    """Return the difference in balanced accuracy of networks trained on the bundle from those on own X-rays."""
    for gap in scores.differences:
        if gap.metric == "balanced_accuracy" and {gap.arm, gap.minus} == {arm, _OWN}:
            found = gap.bootstrap
            return found if gap.arm == arm else Interval(-found.estimate, -found.high, -found.low)
    return None
