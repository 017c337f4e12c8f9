"""The cells of the comparison: one arm with one architecture, trained once and kept."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from medidistill.config import METHODS, NetworkConfig, RunConfig, as_dict, digest
from medidistill.distillation import Experts, expert_file
from medidistill.distilled_set import DistilledSet, LabelledImages
from medidistill.errors import IngestError
from medidistill.evaluate import Arm, ArmRun, arm_program
from medidistill.evaluate.protocol import SELECTION_NETWORKS
from medidistill.hashing import tensor_sha256
from medidistill.networks import Program, Workers, should_compile
from medidistill.pipeline.comparison.arms import FULL, cell_file, compared, control_packings, make_arm, methods
from medidistill.pipeline.comparison.controls import PACKED
from medidistill.pipeline.comparison.private_rival import NAME as DP_FULL
from medidistill.pipeline.comparison.private_rival import noise_of_sets
from medidistill.pipeline.comparison.rivals import rivals
from medidistill.pipeline.planning.memory import experts_need
from medidistill.pipeline.prepared import PreparedData
from medidistill.pipeline.runfolder.progress import say
from medidistill.pipeline.work import RunContext

__all__ = ["ComparisonInputs", "comparison_inputs", "fingerprint", "run_cells"]


@dataclass(frozen=True)
class ComparisonInputs:
    """What takes part in a comparison.

    Args:
        data: prepared real images.
        distilled: the distilled set of each arm that has one, of this run or from elsewhere.
        external: a second test set, None where there is none.
        basis: arm -> what names the bytes that it is trained on.
        experts: the pool of the run, which may label real images; None where there is none, or where it is private.
    """

    data: PreparedData
    distilled: Mapping[str, DistilledSet]
    external: LabelledImages | None = None
    basis: Mapping[str, str] = field(default_factory=dict)
    experts: Experts | None = None

    @property
    def arms(self) -> tuple[str, ...]:
        """Names of the arms in the order of the table."""
        return tuple(self.basis)

    def inputs(self, run: RunContext, name: str, architecture: str) -> str:
        """Return what names a cell: all that its networks and predictions rest on."""
        config, rules = run.config, run.config.evaluate
        return digest(
            "cell",
            name,
            architecture,
            self.basis[name],
            self.data.digest,
            None if self.external is None else fingerprint(self.external),
            dataclasses.replace(config.network, name=architecture),
            config.experts,
            None if name == FULL else config.distill.ipc,
            [rules.num_networks, rules.full_epochs, rules.full_lr, rules.compile, self.experts is not None],
            rules.small_set_training,
            rules.adaptive,
            config.seed,
        )


def fingerprint(images: LabelledImages) -> str:
    """Return what names the pixels, labels and patients of a split."""
    return digest(tensor_sha256(images.images), images.labels.tolist(), list(images.patient_ids))


def comparison_inputs(run: RunContext, data: PreparedData, external: LabelledImages | None) -> ComparisonInputs:
    """Collect the arms of this run: real images, its distilled sets, bundles from elsewhere."""
    config = run.config
    distilled, basis = {}, {}
    for name in compared(config):
        basis[name] = ""
        if name in METHODS:
            basis[name] = run.require(f"distill/{name}", f"medidistill distill --method {name}")
            mine = DistilledSet.load(run.folder.distill(name) / "distilled.safetensors")
            if config.experts.dp.enabled:  # another draw of the noise gives another set of the same inputs
                basis[name] = digest(basis[name], tensor_sha256(mine.images), tensor_sha256(mine.targets))
            distilled[name] = mine
        elif name == DP_FULL:
            basis[name] = noise_of_sets(config, methods(config))
        elif name == PACKED:
            basis[name] = digest([as_dict(way) for way in control_packings(config, data.train.images.shape[-1])])
    for name, bundle in rivals(config, data.train.class_names, data.train.images.shape[1]).items():
        distilled[name] = bundle
        basis[name] = digest(
            tensor_sha256(bundle.images),
            bundle.targets.tolist(),
            bundle.alpha,
            as_dict(bundle.normalisation),
        )
    return ComparisonInputs(data, distilled, external, basis, _labelling_pool(run))


def _labelling_pool(run: RunContext) -> Experts | None:
    """Return the run's experts where they may label real images: not where they are private, as the labels are not."""
    config = run.config
    files = [expert_file(run.folder.experts, number) for number in range(config.experts.count)]
    usable = config.evaluate.expert_labels and not config.experts.dp.enabled and all(file.is_file() for file in files)
    return Experts(files) if usable else None


@dataclass(frozen=True)
class _Cell:
    """One arm with one architecture: piece `piece[0]` of `piece[1]`."""

    name: str
    architecture: str
    file: Path
    inputs: str
    piece: tuple[int, int]

    @property
    def title(self) -> str:
        return f"evaluate {self.name} {self.architecture}"


def run_cells(run: RunContext, contest: ComparisonInputs) -> list[ArmRun]:
    """Train what is not there yet; return the cells, architecture by architecture."""
    data, made = contest.data, dict[int, ArmRun]()
    need = experts_need(run.config, data.num_images, data.train.num_classes)
    workers = run.workers_for(planned_work(run.config, contest), need)
    pieces = [
        (architecture, name)
        for architecture in run.config.evaluate.architectures
        for name in contest.arms
        if name != DP_FULL or architecture == "convnet"
    ]
    missing = []
    for place, (architecture, name) in enumerate(pieces):
        file, inputs = cell_file(run.folder, name, architecture), contest.inputs(run, name, architecture)
        one = _Cell(name, architecture, file, inputs, (place, len(pieces)))
        kept = _load_cached(file, inputs)
        if kept is None:
            missing.append(one)
        else:
            made[place] = kept
            say(run.progress, f"{one.title}: finished before, kept")
    with _Bars(run, missing) as bars:

        def keep(number: int, cell: ArmRun) -> None:
            cell.save(missing[number].file)
            bars.end(number)

        programs = [_program(run, contest, one, partial(bars.at, n)) for n, one in enumerate(missing)]
        found = (workers or Workers()).run_programs(programs, keep)
    made.update({one.piece[0]: cell for one, cell in zip(missing, found, strict=True)})
    return [made[place] for place in range(len(pieces))]


class _Bars:
    """The bar of the first cell that is not finished, where several are under way."""

    def __init__(self, run: RunContext, cells: Sequence[_Cell]) -> None:
        self._run, self._cells = run, cells
        self._reached: dict[int, tuple[int, int]] = {}
        self._ended: set[int] = set()
        self._shown, self._open = 0, contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._show()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def at(self, number: int, done: int, total: int) -> None:
        """Note how many networks of a cell are trained."""
        self._reached[number] = done, total
        if number == self._shown:
            self._bar.at(done, total)

    def end(self, number: int) -> None:
        """Note that a cell is finished; show the next one that is not."""
        self._ended.add(number)
        if number == self._shown:
            self._open.close()
            while self._shown in self._ended:
                self._shown += 1
            self._show()

    def _show(self) -> None:
        if self._shown < len(self._cells):
            one = self._cells[self._shown]
            self._bar = self._open.enter_context(self._run.bar(one.title, 0, "network", one.piece))
            if self._shown in self._reached:
                self._bar.at(*self._reached[self._shown])


def planned_work(config: RunConfig, contest: ComparisonInputs) -> float:
    """Return about how many activations all cells will take: steps x batch x width x rows x columns."""
    rules, train = config.evaluate, contest.data.train
    few = min(rules.small_set_training.batch_size, config.distill.ipc * train.num_classes)
    by_sgd, adaptive = rules.small_set_training.steps, rules.adaptive.steps
    small = few * (rules.num_networks * max(by_sgd, adaptive) + SELECTION_NETWORKS * (4 * by_sgd + 2 * adaptive))
    full = len(train) * rules.full_epochs * (rules.num_networks + 4 * SELECTION_NETWORKS) if FULL in contest.arms else 0
    pixels = config.network.width * train.images[0, 0].numel()
    return float(len(rules.architectures) * pixels * (len(contest.arms) * small + full))


def _program(
    run: RunContext, contest: ComparisonInputs, cell: _Cell, on_network: Callable[[int, int], None]
) -> Program[ArmRun]:
    config, data, name = run.config, contest.data, cell.name
    network = dataclasses.replace(config.network, name=cell.architecture)
    arm = make_arm(name, config, data, contest.distilled, contest.experts)
    compiled = _compilation_pays_off(arm, network, config.evaluate.num_networks, config.evaluate.compile)
    arm = dataclasses.replace(arm, info={**arm.info, "inputs": cell.inputs, "compiled": compiled})
    # a bundle from elsewhere says itself how images are normalised before its networks see them
    normalisation = contest.distilled[name].normalisation if name in contest.distilled else data.normalisation
    return (
        yield from arm_program(
            arm.to(run.device),
            network=network,
            val_images=data.normalised(data.val.images, normalisation).to(run.device),
            val_labels=data.val.labels,
            test_images=data.normalised(data.test.images, normalisation).to(run.device),
            num_classes=data.train.num_classes,
            networks=config.evaluate.num_networks,
            seed=config.seed,
            external_images=None
            if contest.external is None
            else data.normalised(contest.external.images, normalisation).to(run.device),
            on_network=on_network,
            compile=compiled,
        )
    )


def _compilation_pays_off(arm: Arm, network: NetworkConfig, networks: int, mode: str) -> bool:
    """Whether compiling is repaid by the training of all networks of a cell; library networks train eagerly."""
    if network.name != "convnet" or arm.fit is not None:
        return False
    trainings = [training for _, training in arm.options()]
    choosing = SELECTION_NETWORKS if len(trainings) > 1 else 0
    steps = [networks * trainings[0].steps, *(choosing * one.steps for one in trainings)]
    batch = min(arm.candidates[0].batch_size, len(arm.images))
    return should_compile(mode, sum(steps) * batch * network.width * arm.images[0, 0].numel())


def _load_cached(file: Path, inputs: str) -> ArmRun | None:
    try:
        kept = ArmRun.load(file)
    except IngestError:
        return None
    return kept if kept.info.get("inputs") == inputs else None
