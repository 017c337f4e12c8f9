from __future__ import annotations

import dataclasses

import pytest
import torch

from medidistill.config import ExpertConfig
from medidistill.distillation import Experts, expert_labels, train_experts
from medidistill.errors import ConfigError
from medidistill.evaluate import ArmRun, run_arm
from medidistill.pipeline.comparison.arms import chosen_form, make_arm
from tests.export.bundle_example import make_set

from .comparison_example import ready_run


@pytest.fixture
def run(tmp_path):
    return ready_run(tmp_path / "run", arms=("packed",), size=16, images=48)


def test_packed_control_stores_more_and_smaller_images_in_the_same_bytes(run):
    arm = make_arm("packed", run.config, run.data(), {})
    side, ipc = 16, run.config.distill.ipc
    for form in (arm, *arm.forms):
        factor = form.info["factor"]
        small = torch.nn.functional.interpolate(form.images, size=side // factor, mode="area")
        assert form.images.shape[-1] == side
        assert len(form.images) * (side // factor) ** 2 <= 2 * ipc * side**2
        assert small.shape[-1] == side // factor
    assert [form.info["factor"] for form in (arm, *arm.forms)] == [1, 2, 4]


def test_packed_control_never_repeats_an_image_where_a_class_is_small(run):
    config = dataclasses.replace(run.config, distill=dataclasses.replace(run.config.distill, ipc=5))
    arm = make_arm("packed", config, run.data(), {})
    smallest = min(run.data().train.counts().values())
    assert [form.info["decoded"] for form in (arm, *arm.forms)] == [5, min(20, smallest), min(80, smallest)]


@pytest.mark.parametrize(
    ("objective", "optimizer", "by_alpha"),
    [
        ("snapshots", "sgd", False),  # a bundle, for which validation chose SGD
        ("snapshots", "adamw", False),
        ("trajectory", "adamw", True),  # a bundle, for which validation chose AdamW
        ("trajectory", "sgd", True),
        (None, "sgd", True),
        (None, "adamw", False),
    ],
)
def test_a_set_gets_the_same_rates_whatever_training_its_bundle_carries(run, objective, optimizer, by_alpha):
    training = dataclasses.replace(run.config.evaluate.small_set_training, optimizer=optimizer)
    recipe = {"distill": {"objective": objective}} if objective else {}
    given = dataclasses.replace(make_set(), alpha=0.077, training=training, recipe=recipe)
    rates = [one.lr for one in make_arm("given", run.config, run.data(), {"given": given}).candidates]
    assert (rates[0] == 0.077) is by_alpha


def test_validation_chooses_the_form_and_the_result_says_which(run):
    data = run.data()
    arm = make_arm("packed", run.config, data, {})
    result = run_arm(
        arm,
        network=run.config.network,
        val_images=data.normalisation.apply(data.val.images),
        val_labels=data.val.labels,
        test_images=None,
        num_classes=data.train.num_classes,
        networks=1,
        seed=0,
    )
    scores = [score for score in result.candidate_scores if score is not None]
    options = arm.options()
    best = max(range(len(options)), key=lambda place: (scores[place], -place))
    form, training = options[best]
    assert len(result.candidate_scores) == len(options) == 3
    assert (result.info["factor"], result.chosen) == (form.info["factor"], training)
    assert result.training_images == len(form.images)


@pytest.fixture
def pool(run, tmp_path):
    data = run.data()
    files = train_experts(
        *data.training_tensors(),
        num_classes=data.train.num_classes,
        network=run.config.network,
        config=ExpertConfig(count=2, epochs=2),
        seed=0,
        folder=tmp_path / "experts",
    )
    return Experts(files)


@pytest.mark.parametrize("name", ["random", "kmeans", "packed"])
def test_a_few_real_images_may_be_labelled_by_the_experts_too(run, pool, name):
    data = run.data()
    arm = make_arm(name, run.config, data, {}, pool)
    by_class, by_experts = ([one for one in (arm, *arm.forms) if ("labels" in one.info) is it] for it in (False, True))
    assert len(by_experts) == len(by_class)
    counts = torch.bincount(data.train.labels).tolist()
    for plain, form in zip(by_class, by_experts, strict=True):
        assert torch.equal(plain.images, form.images)
        torch.testing.assert_close(form.labels, expert_labels(pool, plain.images, counts))
        assert form.info["labels"] == "experts"


def test_the_form_of_a_cell_is_found_again(run, pool):
    arm = make_arm("packed", run.config, run.data(), {}, pool)
    for form in (arm, *arm.forms):
        cell = ArmRun("packed", "convnet", 0, form.candidates[0], 1, 2, (0.5,), info={"inputs": "x", **form.info})
        assert chosen_form(arm, cell) is form
    with pytest.raises(ConfigError, match="factor 8"):
        chosen_form(arm, ArmRun("packed", "convnet", 0, arm.candidates[0], 1, 2, (0.5,), info={"factor": 8}))


def test_packed_control_holds_as_many_images_in_few_bits_as_the_distilled_sets(run):
    coarse = dataclasses.replace(run.config.distill, bits=2)
    arm = make_arm("packed", dataclasses.replace(run.config, distill=coarse), run.data(), {})
    smallest = min(run.data().train.counts().values())
    forms = [(form.info.get("bits", 8), form.info["factor"], form.info["decoded"]) for form in (arm, *arm.forms)]
    ipc = run.config.distill.ipc
    whole = [(8, factor, min(ipc * factor**2, smallest)) for factor in (1, 2, 4)]
    assert forms == whole + [(2, factor, min(4 * ipc * factor**2, smallest)) for factor in (1, 2, 4)]
    two_bits = arm.forms[2]
    assert len(two_bits.images.unique()) <= 4  # full size: what is decoded are the four levels


def test_chosen_form_tells_bits_apart(run):
    coarse = dataclasses.replace(run.config.distill, bits=4)
    arm = make_arm("packed", dataclasses.replace(run.config, distill=coarse), run.data(), {})
    for form in (arm, *arm.forms):
        cell = ArmRun("packed", "convnet", 0, form.candidates[0], 1, 2, (0.5,), info=form.info)
        assert chosen_form(arm, cell) is form


def test_packed_control_is_stored_as_amplitudes_where_a_set_is(run):
    config = dataclasses.replace(run.config.distill, decoder="spectral", bits=4, factor=2)
    arm = make_arm("packed", dataclasses.replace(run.config, distill=config), run.data(), {})
    smallest = min(run.data().train.counts().values())
    forms = [
        (form.info.get("decoder", "bilinear"), form.info.get("bits", 8), form.info["factor"])
        for form in (arm, *arm.forms)
    ]
    assert forms == [("bilinear", 8, 1)] + [("spectral", bits, factor) for bits in (8, 4) for factor in (2, 4)]
    ipc = run.config.distill.ipc
    assert arm.forms[-1].info["decoded"] == min(2 * ipc * 16, smallest)
    for form in (arm, *arm.forms):
        cell = ArmRun("packed", "convnet", 0, form.candidates[0], 1, 2, (0.5,), info=form.info)
        assert chosen_form(arm, cell) is form
