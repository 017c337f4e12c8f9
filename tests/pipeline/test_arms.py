from __future__ import annotations

import dataclasses

import pytest
import torch

from medidistill.config import METHODS, DPConfig, ExpertConfig
from medidistill.distillation import Experts, expert_labels, train_experts
from medidistill.errors import ConfigError
from medidistill.evaluate import ArmRun, run_arm
from medidistill.packed_images import dct_amplitudes
from medidistill.pipeline.comparison.arms import control_packings, make_arm, method_config, training_of
from medidistill.pipeline.comparison.cells import comparison_inputs
from medidistill.pipeline.comparison.controls import chosen_form
from medidistill.pipeline.stages.experts import experts
from tests.export.bundle_example import make_set

from .comparison_example import ready_run


@pytest.fixture
def run(tmp_path):
    made = ready_run(tmp_path / "run", arms=("packed",), size=16, images=48)
    return with_distill(made, bits=8)


def with_distill(run, **settings):
    config = dataclasses.replace(run.config, distill=dataclasses.replace(run.config.distill, **settings))
    return dataclasses.replace(run, config=config)


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


def test_packed_control_has_the_bytes_of_sets_in_32_bits(run):
    smallest = min(run.data().train.counts().values())
    for settings, times in (({"bits": 0}, 4), ({"bits": 32, "factor": 2}, 4), ({"factor": 2, "bits": 0}, 1)):
        config = with_distill(run, **settings).config
        sets = method_config(config, "iadd")
        bits = sets.bits_per_class * 16 * 16
        forms = control_packings(config, 16)
        assert [form.per_class for form in forms] == [times * config.distill.ipc * f * f for f in (1, 2, 4)]
        assert all(form.per_class * form.bits * (16 // form.factor) ** 2 == bits for form in forms)
        arm = make_arm("packed", config, run.data(), {})
        assert len(arm.images) == 2 * min(times * config.distill.ipc, smallest)


def test_packed_control_is_rounded_as_the_sets_are(run):
    arm = make_arm("packed", run.config, run.data(), {})
    assert len(arm.images.unique()) <= 256
    dct = control_packings(with_distill(run, factor=2, decoder="dct", bits=0).config, 16)
    assert [(form.decoder, form.factor) for form in dct[3:]] == [("dct", 2), ("dct", 4)]
    arm = make_arm("packed", with_distill(run, factor=2, decoder="dct", bits=0).config, run.data(), {})
    for form in arm.forms[2:]:
        amplitudes = dct_amplitudes(form.images)
        h = 16 // form.info["factor"]
        amplitudes[..., :h, :h] = 0
        assert float(amplitudes.abs().max()) < 1e-3
        cell = ArmRun("packed", "convnet", 0, form.candidates[0], 1, 2, (0.5,), info=form.info)
        assert chosen_form(arm, cell) is form


def test_a_cell_of_the_control_is_of_the_way_the_sets_are_stored(run):
    def named(**settings):
        other = with_distill(run, **settings)
        return comparison_inputs(other, other.data(), None).inputs(other, "packed", "convnet")

    assert named(factor=2) == named(factor=4) != named(factor=2, decoder="spectral")


def test_every_set_carries_a_training_that_the_comparison_tries(run):
    for method in METHODS:
        training = training_of(run.config, method)
        carried = dataclasses.replace(training, lr=0.03 if training.optimizer == "sgd" else training.lr)
        made = method_config(run.config, method)
        recipe = {"distill": {"objective": made.objective}}
        distilled = dataclasses.replace(make_set(), alpha=carried.lr, training=carried, recipe=recipe)
        assert carried in [one for _, one in make_arm(method, run.config, run.data(), {method: distilled}).options()]


def test_where_experts_are_private_a_set_is_trained_as_it_is_shipped(run):
    dp = DPConfig(enabled=True, noise_multiplier=1.0)
    config = dataclasses.replace(run.config, experts=dataclasses.replace(run.config.experts, dp=dp))
    arm = make_arm("iadd", config, run.data(), {"iadd": make_set()})
    assert arm.candidates == (make_set().training,)
    assert len(make_arm("elsewhere", config, run.data(), {"elsewhere": make_set()}).candidates) > 1


@pytest.mark.parametrize(
    ("shared", "methods", "message"),
    [
        ({"factor": 3}, {}, "method iadd: distill.factor=3: must divide the side"),
        ({"coarse": 3}, {}, "method iadd: distill.coarse=3: must divide the side"),
        ({"coarse": 8}, {}, "method iadd: distill.factor=1"),
        ({"factor": 4}, {"iadd": {"init": "real"}}, "'real' .iadd.: class .* 32 are needed"),
        ({}, {"mtt": {"factor": 2}, "iadd": {"start_from": "mtt"}}, "begins with the set of mtt, which has 8 images"),
    ],
)
def test_sets_that_cannot_be_made_are_refused_before_experts_are_trained(run, shared, methods, message):
    made = with_distill(run, **shared)
    arms = dataclasses.replace(made.config.evaluate, arms=("mtt", "iadd") if "mtt" in methods else ("iadd",))
    config = dataclasses.replace(made.config, evaluate=arms, methods=methods)
    with pytest.raises(ConfigError, match=message):
        experts(dataclasses.replace(made, config=config))
    assert not made.folder.experts.exists()


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
