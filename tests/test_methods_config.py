"""What each distillation method changes in the settings of a run."""

from __future__ import annotations

import dataclasses

import pytest

from medidistill.config import (
    DEFAULT_METHOD,
    METHODS,
    AugmentConfig,
    DistillConfig,
    DPConfig,
    EvaluateConfig,
    ExpertConfig,
    ImportanceConfig,
    IngestConfig,
    RealData,
    RunConfig,
    TrainingConfig,
    as_dict,
    digest,
    preferred_method,
    with_settings,
)
from medidistill.errors import ConfigError
from medidistill.evaluate import ArmRun
from medidistill.pipeline import RunFolder, load_config
from medidistill.pipeline.comparison.arms import Delivery, cell_file, delivery, methods


@pytest.mark.parametrize(
    ("settings", "grows"),
    [
        ({}, True),
        ({"lr_schedule": "cosine"}, False),
        ({"start_growth": 0.5}, False),
        ({"coarse": 2}, False),  # as many steps at the coarse side
        ({"coarse": 2, "coarse_steps": 100}, True),
    ],
)
def test_steps_may_grow_where_no_schedule_is_laid_out_over_them(settings, grows):
    assert DistillConfig(**settings).steps_may_grow is grows


def test_each_method_is_the_shared_settings_with_its_own_changes():
    run = RunConfig(methods={"bptt": {"lr_images": 0.02, "importance": {"lr": 0.5}}})
    assert run.distill_by("iadd") == run.distill
    assert not run.distill_by("mtt").importance.enabled
    assert run.distill_by("bptt").objective == "student_loss"
    assert run.distill_by("bptt").lr_images == 0.02
    assert run.distill_by("bptt").importance.lr == 0.5
    assert not run.distill_by("bptt").importance.enabled
    assert run.distill_by("mtt").lr_images == run.distill.lr_images


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"bptq": {}}, "did you mean 'bptt'"),
        ({"bptt": {"lr_image": 1}}, "did you mean 'lr_images'"),
        ({"bptt": {"alpha": -1}}, "methods.bptt.*alpha=-1"),
        ({"mtt": {"importance": 3}}, "must be a section"),
        ({"mtt": {"ipc": 50}}, r"methods\.mtt\.ipc=50: must not be set.*set distill\.ipc"),
        ({"bptt": {"alpha": 0.2}, "mtt": {"lr_images": 0.1, "ipc": 5}}, r"methods\.mtt\.ipc=5: must not be set"),
    ],
)
def test_a_wrong_method_or_setting_is_named(section, message):
    with pytest.raises(ConfigError, match=message):
        RunConfig(methods=section)


@pytest.mark.parametrize(
    ("arm", "changes"), [("dp_stats", {}), ("mtt", {"methods": {"mtt": {"objective": "statistics"}}})]
)
def test_statistics_of_public_features_need_images_of_mean_0_and_deviation_1(arm, changes):
    private = ExpertConfig(dp=DPConfig(enabled=True, noise_multiplier=1.0))
    fixed, compared = IngestConfig(normalisation="fixed"), EvaluateConfig(arms=("full", arm))
    with pytest.raises(ConfigError, match=rf"normalisation='fixed' with {arm}: .*use ingest\.normalisation=per_image"):
        RunConfig(ingest=fixed, experts=private, evaluate=compared, **changes)
    RunConfig(experts=private, evaluate=compared, **changes)
    RunConfig(ingest=fixed, experts=private, evaluate=EvaluateConfig(arms=("full", "iadd")))


def test_images_of_released_statistics_are_stored_as_they_are():
    private = ExpertConfig(dp=DPConfig(enabled=True, noise_multiplier=1.0))
    packed = DistillConfig(factor=4, decoder="spectral", bits=2)
    run = RunConfig(experts=private, distill=packed, evaluate=EvaluateConfig(arms=("full", "dp_stats", "iadd")))
    made = run.distill_by("dp_stats")
    assert (made.images_per_class, made.packed, made.stored_bits) == (packed.ipc, False, 32)
    assert run.distill_by("iadd").packed
    with pytest.raises(ConfigError, match="factor=4 with objective='statistics': must be 1"):
        dataclasses.replace(run, methods={"dp_stats": {"factor": 4}})


def test_methods_come_from_yaml_and_reach_the_digest(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("methods:\n  bptt: {alpha: 0.2}\nevaluate: {arms: [full, mtt, bptt]}\n", encoding="utf-8")
    run = load_config(file)
    assert run.distill_by("bptt").alpha == 0.2
    assert methods(run) == ("mtt", "bptt")
    empty = RunFolder(tmp_path / "empty")
    assert delivery(run, empty).method == "mtt"
    assert delivery(RunConfig(), empty).method == "mtt"
    assert as_dict(run)["methods"] == {"bptt": {"alpha": 0.2}}
    assert digest(run) != digest(load_config(file, ["methods.bptt.alpha=0.3"]))
    assert load_config(file, ["methods.bptt.alpha=0.3"]).distill_by("bptt").alpha == 0.3
    file.write_text("methods: [bptt]\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="must be a section for each name"):
        load_config(file)


def test_settings_change_sections_and_refuse_what_does_not_exist():
    changed = with_settings(DistillConfig(), {"augment": {"shift": 0.1}, "ipc": 3})
    assert (changed.augment.shift, changed.ipc) == (0.1, 3)
    with pytest.raises(ConfigError, match="unknown key 'augmnt'"):
        with_settings(DistillConfig(), {"augmnt": {}})
    assert set(METHODS) >= {"mtt", "iadd", "bptt"}


def test_every_method_is_a_valid_change_of_the_defaults_and_they_all_differ():
    run = RunConfig(distill=DistillConfig(augment=AugmentConfig(shift=0.1)))
    made = {name: (run.distill_by(name), run.experts_by(name)) for name in METHODS}
    assert len(set(made.values())) == len(METHODS)
    flat = {name for name, (_, experts) in made.items() if experts.rho > 0}
    assert flat == {name for name, method in METHODS.items() if method.flat_experts}
    requires_real = {name for name, (distill, _) in made.items() if distill.requires_real}
    by_batches = {"dc", "dsa", "dm", "kernel", "kernel_warm", "bptt", "bptt_soft", "iadd_hypergradient"}
    assert requires_real == by_batches | {
        *("snapshots", "datm", "fisher_w", "iadd_datm", "iadd_fisher"),
        *("mtt_mean", "variance_w", "gaussian", "mixture"),
    }


def test_a_method_that_begins_with_anothers_set_needs_that_method():
    with pytest.raises(ConfigError, match=r"iadd_warm begins with the set of 'snapshots'.*add it to evaluate.arms"):
        methods(RunConfig(evaluate=EvaluateConfig(arms=("full", "iadd_warm"))))
    arms = ("full", "iadd_warm", "snapshots")
    assert methods(RunConfig(evaluate=EvaluateConfig(arms=arms))) == ("snapshots", "iadd_warm")


@pytest.mark.parametrize(
    ("factor", "coarse", "small"), [(4, 2, (2, 40)), (1, 2, (1, 10)), (2, 4, (1, 40)), (3, 2, (1, 90))]
)
def test_the_coarse_side_has_as_many_images(factor, coarse, small):
    config = DistillConfig(ipc=10, factor=factor, coarse=coarse, outer_steps=300, coarse_steps=50)
    made = config.at_coarse_side()
    assert (made.factor, made.ipc) == small
    assert made.images_per_class == config.images_per_class
    assert (made.coarse, made.outer_steps, made.stored_bits, made.validate_every) == (1, 50, 32, 0)


def test_delivery_takes_the_best_on_validation_and_the_rule_where_it_is_named(tmp_path):
    folder = RunFolder(tmp_path)
    run = RunConfig(evaluate=EvaluateConfig(arms=("full", "snapshots", "mtt", "iadd")))
    for method, score in (("snapshots", 0.7), ("mtt", 0.8), ("iadd", 0.6)):
        ArmRun(method, "convnet", 0, TrainingConfig(), 9, 3, (score,)).save(cell_file(folder, method, "convnet"))
    assert delivery(run, folder).method == "mtt"
    assert delivery(run, folder).scores == {"snapshots": 0.7, "mtt": 0.8, "iadd": 0.6}
    assert delivery(dataclasses.replace(run, deliver="iadd"), folder) == Delivery("iadd", {})
    private = dataclasses.replace(run, experts=ExpertConfig(dp=DPConfig(enabled=True, noise_multiplier=1.0)))
    assert delivery(private, folder) == Delivery("mtt", {})
    with pytest.raises(ConfigError, match=r"deliver='dm': is not compared; add it to evaluate.arms"):
        dataclasses.replace(run, deliver="dm")


def test_a_run_whose_experts_are_flat_already_has_one_pool():
    run = RunConfig(experts=ExpertConfig(rho=0.05))
    assert run.experts_by("ftd") == run.experts_by("mtt") == run.experts


def test_dsa_without_augmentation_is_refused_as_dc():
    with pytest.raises(ConfigError, match=r"'dsa' without distill\.augment is 'dc'"):
        methods(RunConfig(evaluate=EvaluateConfig(arms=("full", "dc", "dsa"))))


def test_an_iadd_variant_needs_w_too():
    run = RunConfig(
        distill=DistillConfig(importance=ImportanceConfig(enabled=False)),
        evaluate=EvaluateConfig(arms=("full", "iadd_soft")),
    )
    with pytest.raises(ConfigError, match=r"importance\.enabled"):
        methods(run)


def test_every_method_has_a_title_and_a_line_in_the_documentation(root):
    assert [name for name, method in METHODS.items() if method.name != name] == []
    assert len({method.title for method in METHODS.values()}) == len(METHODS)
    documented = (root / "docs" / "methods.md").read_text(encoding="utf-8")
    assert [name for name in METHODS if f"`{name}`" not in documented] == []
    cited = {method.citation.removeprefix("after ") for method in METHODS.values()} - {""}
    assert [work for work in sorted(cited) if work not in documented] == []


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_a_method_reads_what_its_settings_read(method):
    settings = RunConfig().distill_by(method.name)
    by_batches = settings.objective not in ("trajectory", "statistics", "snapshots")
    by_batches |= settings.importance.descends_real_loss
    assert (method.reads is RealData.BATCHES) == by_batches
    assert (method.reads is RealData.ONCE_WITH_NOISE) == (not settings.matches_experts) == method.needs_dp
    assert (method.reads is RealData.MOMENTS) == (settings.init == "gaussian")
    assert (method.reads is RealData.GROUP_MOMENTS) == (settings.init == "mixture")
    assert (method.reads not in (RealData.NOTHING, RealData.ONCE_WITH_NOISE)) == settings.requires_real


@pytest.mark.parametrize(
    ("names", "delivered"),
    [(("mtt", "iadd"), "mtt"), (("iadd", "mtt"), "mtt"), (("dm", "iadd"), "iadd"), (("dp_stats",), "dp_stats")],
)
def test_without_a_score_mtt_is_delivered_else_the_last(names, delivered):
    assert preferred_method(names) == delivered
    assert DEFAULT_METHOD == "mtt"
