"""The protocol of the comparison: fresh networks, choices on validation only, common random numbers across arms.

An *arm* is one thing to train on (all real data, a few real images, a distilled set). Network i of every arm
starts from the same weights and draws from the same batch stream, so that differences between arms are
paired: what one network was given by chance, its partner was given too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from medidistill.config import AugmentConfig, NetworkConfig, TrainingConfig, as_dict
from medidistill.errors import ConfigError, DivergedError, IngestError
from medidistill.evaluate.metrics import balanced_accuracy_score
from medidistill.files import load_tensors, save_tensors
from medidistill.jsontypes import ReadOnlyJsonObject  # what the kind of arm has to tell
from medidistill.networks import Batch, Program, Workers, is_custom, make_network, predict, train
from medidistill.seeding import global_seed, stream

__all__ = ["SELECTION_NETWORKS", "Arm", "ArmRun", "arm_program", "run_arm", "train_network"]

SELECTION_NETWORKS = 2
_FORMAT = 1
_ARRAYS = ("test_probabilities", "val_probabilities", "external_probabilities")


@dataclass(frozen=True)
class Arm:
    """One thing to train diagnostic models on.

    Args:
        name: how the arm is called in the table, for example `random`.
        images: (N, C, H, W) float32, normalised.
        labels: (N,) int64 class indices or (N, K) float32 probabilities.
        candidates: ways to train; with more than one, the best on validation is taken.
        info: JSON-safe facts to keep beside the results (ipc, digest of the distilled set, best step).
        fit: `fit(network, images, labels)` trains a fresh network in place of SGD by the candidate, which then only
            says what was done.
        forms: the same thing in other forms, for example packed more densely; each is tried with its own candidates,
            and the best on validation takes the place of the arm.
    """

    name: str
    images: Tensor
    labels: Tensor
    candidates: tuple[TrainingConfig, ...]
    info: ReadOnlyJsonObject = field(default_factory=dict)
    fit: Callable[[torch.nn.Module, Tensor, Tensor], None] | None = None
    forms: tuple[Arm, ...] = ()

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or len(self.images) == 0 or len(self.labels) != len(self.images):
            raise ConfigError(
                f"arm {self.name}: images {tuple(self.images.shape)} with {len(self.labels)} labels: "
                "must be (N, C, H, W) and N labels, N >= 1"
            )
        if not self.candidates:
            raise ConfigError(f"arm {self.name}: candidates is empty; give at least one TrainingConfig")

    def to(self, device: torch.device | str) -> Arm:
        """Return the same arm, trained on `device`."""
        forms = tuple(form.to(device) for form in self.forms)
        return replace(self, images=self.images.to(device), labels=self.labels.to(device), forms=forms)

    def options(self) -> list[tuple[Arm, TrainingConfig]]:
        """Return every form with every way to train it, in the order in which ties are decided."""
        return [(form, training) for form in (self, *self.forms) for training in form.candidates]


@dataclass(frozen=True)
class ArmRun:
    """What one architecture made of one arm. Holds no image.

    Args:
        arm: name of the arm.
        architecture: name of the network.
        seed: the seed that `run_arm` was given.
        chosen: the training that was used.
        training_images: number of images trained on.
        num_classes: K.
        val_balanced_accuracy: of each network on the validation split.
        candidate_scores: mean validation balanced accuracy of each candidate, None where one diverged;
            empty when there was nothing to choose.
        test_probabilities: (networks, N_test, K) float32, or None when the test split stayed closed.
        info: copied from the arm.
        val_probabilities: (networks, N_val, K) float32, to choose thresholds on; None in files of older versions.
        external_probabilities: (networks, N_external, K) float32 of a second test set; None where there is none.
    """

    arm: str
    architecture: str
    seed: int
    chosen: TrainingConfig
    training_images: int
    num_classes: int
    val_balanced_accuracy: tuple[float, ...]
    candidate_scores: tuple[float | None, ...] = ()
    test_probabilities: npt.NDArray[np.float32] | None = None
    info: ReadOnlyJsonObject = field(default_factory=dict)
    val_probabilities: npt.NDArray[np.float32] | None = None
    external_probabilities: npt.NDArray[np.float32] | None = None

    @property
    def val_score(self) -> float:
        """Mean balanced accuracy of the networks on validation."""
        return float(np.mean(self.val_balanced_accuracy))

    def save(self, path: Path) -> None:
        """Write the run as one safetensors file with a JSON header, atomically. Raises `ResourceError`."""
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        tensors = {
            name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items() if array is not None
        }
        header = {name: value for name, value in vars(self).items() if name not in _ARRAYS}
        header |= {"kind": "arm_run", "format": _FORMAT, "chosen": as_dict(self.chosen), "info": dict(self.info)}
        save_tensors(path, tensors, header)

    @classmethod
    def load(cls, path: Path) -> ArmRun:
        """Read a run written by `save`. Raises `IngestError` when the file is not one."""
        tensors, header = load_tensors(path)
        if header.pop("kind", "something else") != "arm_run":
            raise IngestError(f"{path}: not a result of an evaluation arm; delete it and run again with --resume")
        if header.pop("format") > _FORMAT:
            raise IngestError(f"{path}: written by a newer medidistill; upgrade it")
        try:
            training = header.pop("chosen")
            training["augment"] = AugmentConfig(**training["augment"])
            for name in ("val_balanced_accuracy", "candidate_scores"):
                header[name] = tuple(header[name])
            arrays: dict[str, Any] = {name: tensors[name].numpy() for name in _ARRAYS if name in tensors}
            return cls(**header, chosen=TrainingConfig(**training), **arrays)
        except (KeyError, TypeError) as error:
            raise IngestError(f"{path}: incomplete result of an evaluation arm ({error}); delete it") from error


def train_network(
    arm: Arm,
    training: TrainingConfig,
    network: NetworkConfig,
    num_classes: int,
    seed: int,
    *purpose: str | int,
    compile: bool = False,
) -> torch.nn.Module:
    """Train one fresh network on an arm.

    It starts from `stream(seed, "evaluate", architecture, *purpose, "init")`, draws its batches from the same names
    with "batches", and drops units by those with "dropout", whatever the arm. The same arguments give the same
    bytes on the CPU.

    Args:
        arm: what to train on.
        training: how.
        network: architecture.
        num_classes: K.
        seed: names the streams.
        purpose: names the streams too; the number i for the networks that `run_arm` counts.
        compile: compile the loss.

    Returns:
        The network, still in training mode.
    """
    names = ("evaluate", network.name, *purpose)
    model = make_network(
        network,
        channels=arm.images.shape[1],
        image_size=arm.images.shape[-1],
        num_classes=num_classes,
        generator=stream(seed, *names, "init"),
    ).to(arm.images.device)
    if arm.fit is not None:
        arm.fit(model, arm.images, arm.labels)
        return model
    # dropout layers of the library networks draw from torch's global generator
    with global_seed(stream(seed, *names, "dropout")):
        train(model, arm.images, arm.labels, training, stream(seed, *names, "batches"), compile=compile)
    return model


def run_arm(
    arm: Arm,
    *,
    network: NetworkConfig,
    val_images: Tensor,
    val_labels: Tensor,
    test_images: Tensor | None,
    num_classes: int,
    networks: int,
    seed: int,
    external_images: Tensor | None = None,
    on_network: Callable[[int, int], None] | None = None,
    compile: bool = False,
    workers: Workers | None = None,
) -> ArmRun:
    """Train fresh networks on one arm and score them on validation; predict the test images if they are given.

    Args:
        workers: processes that train one network each; None: this process.

    The others, and what it returns and raises: see `arm_program`.
    """
    program = arm_program(
        arm,
        network=network,
        val_images=val_images,
        val_labels=val_labels,
        test_images=test_images,
        num_classes=num_classes,
        networks=networks,
        seed=seed,
        external_images=external_images,
        on_network=on_network,
        compile=compile,
    )
    return (workers or Workers()).run_programs([program])[0]


def arm_program(
    arm: Arm,
    *,
    network: NetworkConfig,
    val_images: Tensor,
    val_labels: Tensor,
    test_images: Tensor | None,
    num_classes: int,
    networks: int,
    seed: int,
    external_images: Tensor | None = None,
    on_network: Callable[[int, int], None] | None = None,
    compile: bool = False,
) -> Program[ArmRun]:
    """Ask `Workers.run_programs` for the networks of one arm, and return its run.

    With several candidates each is first tried with `SELECTION_NETWORKS` networks of their own streams; the one with
    the best mean validation balanced accuracy (the first on a tie) then trains the `networks` that count.
    Network i is that of `train_network`: its weights and batches come from streams that do not depend on the arm.
    The test labels never come here.

    Args:
        arm: what to train on.
        network: architecture. One that is registered in this process is always trained here, as is `arm.fit`.
        val_images: (N_val, C, H, W) float32, normalised.
        val_labels: (N_val,) int64, every class present.
        test_images: (N_test, C, H, W) float32, normalised; None keeps the test split closed.
        num_classes: K.
        networks: fresh networks that count, >= 1.
        seed: names the streams.
        external_images: (N_external, C, H, W) float32, normalised: a second test set, of other hospitals.
        on_network: called with (done, total) networks trained.
        compile: compile the loss; pays off from a few hundred steps on.

    Returns:
        The run; the same bytes for the same arguments on the CPU.

    Raises:
        ConfigError: `networks` < 1, or validation lacks a class.
        DivergedError: a network that counts, or every candidate, ended in predictions that are not finite.
    """
    if networks < 1:
        raise ConfigError(f"networks={networks}: must be >= 1")
    options = arm.options()
    tried = options if len(options) > 1 else []
    here = arm.fit is not None or is_custom(network.name)
    total = len(tried) * SELECTION_NETWORKS + networks
    job = _Job(tuple(options), network, num_classes, seed, compile, val_images, val_labels)

    def count(done: int, before: int = 0) -> None:
        if on_network is not None:
            on_network(before + done, total)

    trials = [_Task(option, ("choose", i)) for option in range(len(tried)) for i in range(SELECTION_NETWORKS)]
    tested = [one.score for one in (yield Batch(job, trials, count, here=here))]
    scores = tuple(_mean_or_none(tested[i : i + SELECTION_NETWORKS]) for i in range(0, len(tested), SELECTION_NETWORKS))
    best = _best(arm, scores) if scores else 0
    form, training = options[best]
    job = replace(job, options=(options[best],), test_images=test_images, external_images=external_images)
    counted = [_Task(0, (i,)) for i in range(networks)]
    made = yield Batch(job, counted, partial(count, before=len(trials)), here=here)
    for i, one in enumerate(made):
        if one.score is None:
            raise DivergedError(
                f"arm {arm.name}, {network.name}, network {i}: predictions are not finite after {training.steps} steps "
                f"at lr={training.lr:g}; lower evaluate.small_set_training.lr"
            )
    return ArmRun(
        arm=arm.name,
        architecture=network.name,
        seed=seed,
        chosen=training,
        training_images=len(form.images),
        num_classes=num_classes,
        val_balanced_accuracy=tuple(one.score for one in made if one.score is not None),
        candidate_scores=scores,
        test_probabilities=_stacked([one.test for one in made]),
        info={**arm.info, **form.info},
        val_probabilities=_stacked([one.val for one in made]),
        external_probabilities=_stacked([one.external for one in made]),
    )


@dataclass(frozen=True)
class _Task:
    """One network: which option it is trained by, and the names of its streams."""

    option: int
    purpose: tuple[str | int, ...]


@dataclass(frozen=True)
class _Trained:
    """One network: its score on validation (None: not finite), and its probabilities (N, K)."""

    score: float | None
    val: npt.NDArray[np.float32]
    test: npt.NDArray[np.float32] | None
    external: npt.NDArray[np.float32] | None


@dataclass(frozen=True)
class _Job:
    """Trains one network by one of the options, scores it on validation, and asks it about what else is given."""

    options: tuple[tuple[Arm, TrainingConfig], ...]
    network: NetworkConfig
    num_classes: int
    seed: int
    compile: bool
    val_images: Tensor
    val_labels: Tensor
    test_images: Tensor | None = None
    external_images: Tensor | None = None

    def __call__(self, task: _Task) -> _Trained:
        arm, training = self.options[task.option]
        model = train_network(
            arm, training, self.network, self.num_classes, self.seed, *task.purpose, compile=self.compile
        )
        val, test, external = (
            None if images is None else _probabilities(model, images)
            for images in (self.val_images, self.test_images, self.external_images)
        )
        assert val is not None
        finite = np.isfinite(val).all()
        score = balanced_accuracy_score(self.val_labels.cpu().numpy(), val) if finite else None
        return _Trained(score, val, test, external)


def _probabilities(model: torch.nn.Module, images: Tensor) -> npt.NDArray[np.float32]:
    array: npt.NDArray[np.float32] = predict(model, images).float().cpu().numpy()
    return array


def _stacked(tables: Sequence[npt.NDArray[np.float32] | None]) -> npt.NDArray[np.float32] | None:
    known = [table for table in tables if table is not None]
    return np.stack(known) if known else None


def _mean_or_none(scores: Sequence[float | None]) -> float | None:
    finite = [score for score in scores if score is not None]
    return float(np.mean(finite)) if len(finite) == len(scores) else None


def _best(arm: Arm, scores: Sequence[float | None]) -> int:
    """Return the index of the largest score; a candidate that diverged cannot win."""
    finite = [(score, -i) for i, score in enumerate(scores) if score is not None]
    if not finite:
        raise DivergedError(f"arm {arm.name}: all {len(scores)} candidate trainings diverged; lower their lr")
    return -max(finite)[1]
