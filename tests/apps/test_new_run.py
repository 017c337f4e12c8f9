"""A new run: every preset through the page, names as they are typed, the chosen folder, and what is said before."""

from __future__ import annotations

import dataclasses
import re
import types

import pytest

from medidistill.config import NetworkConfig
from medidistill.pipeline import load_config, preset_files

from .upload_files import picture

PRESETS = sorted(name for name in preset_files() if "/" not in name)


@pytest.fixture
def new_run(open_page, made, monkeypatch):
    """Return a function that opens the page on the phantoms, with the machine measured."""
    from view_models import new_run, presets

    monkeypatch.setenv("MEDIDISTILL_IMAGES", str(made.root))
    monkeypatch.setattr(presets, "known_step", lambda *_: (0.001, 0.0001))
    monkeypatch.setattr(new_run, "known_step", lambda *_: (0.001, 0.0001))

    def opened(**state):
        return open_page("new_run", data_from=str(made.root), data_here=str(made.phantoms), **state)

    return opened


@pytest.mark.parametrize(
    "name", [one if one in ("quick", "private") else pytest.param(one, marks=pytest.mark.slow) for one in PRESETS]
)
def test_every_preset_is_started_from_the_page(name, new_run, monkeypatch, root):
    from view_models import runs
    from view_models.presets import presets

    started = []

    def start(folder, arguments, **rest):
        started.append((arguments, rest))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "job.json").write_text("{}")
        (folder / "exit").write_text("143")

    monkeypatch.setattr(runs, "start", start)
    test = new_run()
    preset = next(one for one in presets() if one.name == name)
    test.radio("preset").set_value(preset).run()
    assert not test.exception
    assert not test.error
    assert list(test.multiselect(f"arms_{name}").value) == list(preset.config.evaluate.arms)
    button = test.button("start_run")
    if button.disabled:  # so few phantoms cannot be released; the page says so and lets them stay inside
        test.checkbox("unreleased").check().run()
    test.button("start_run").click().run()
    assert not test.exception
    assert not test.error
    ((arguments, rest),) = started
    settings = [arguments[place + 1] for place, word in enumerate(arguments) if word == "--set"]
    config = load_config(arguments[arguments.index("--config") + 1], settings)
    assert config.name == "First run"
    assert (root / "first-run").is_dir()
    assert set(rest["estimate"]) >= {"ingest", "experts", "evaluate"}
    assert rest["queue"] == root / ".medidistill-app" / "queue"


def test_every_preset_says_time_and_whether_it_could_be_released(new_run):
    test = new_run()
    captions = list(test.radio("preset").proto.captions)
    assert len(captions) == len(PRESETS)
    for caption in captions:
        assert "Less than a minute." in caption or "About" in caption
        assert "Can never be released as it stands." in caption or "Could be released" in caption


@pytest.mark.parametrize("title", ["Zürich Müller", "2024", "no", "a: b # c", "[x]", '"quoted"', "null", "東京"])
def test_name_of_a_run_is_kept_as_it_is_typed(root, title):
    from view_models.new_run import set_title

    assert load_config("quick", [set_title(title)]).name == title


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Zürich Müller", "zürich-müller"),
        ("u\u0308ber", "über"),
        ("Łódź 3", "łódź-3"),
        ("東京", "東京"),
        ("a_b__c", "a-b-c"),
        ("../../etc", "etc"),
        ("///", ""),
        ("x" * 90, "x" * 40),
    ],
)
def test_folder_of_a_run_keeps_letters_of_every_script(root, text, name):
    from view_models.places import plain_name

    assert plain_name(text) == name


def test_dp_stats_is_offered_where_experts_are_private_and_nowhere_else(root):
    from view_models.presets import offered_arms

    private, quick = load_config("private"), load_config("quick")
    assert "dp_stats" in offered_arms(private)
    assert "dp_stats" not in offered_arms(quick)
    assert offered_arms(quick)[: len(quick.evaluate.arms)] == list(quick.evaluate.arms)


def test_changes_become_settings_and_nothing_else_does(root):
    from view_models.new_run import Changes, plan_settings
    from view_models.presets import presets

    quick = next(one for one in presets() if one.name == "quick")
    same = Changes(quick.config.distill.ipc, arms=tuple(quick.config.evaluate.arms))
    assert plan_settings(quick, same, quick.config.ingest.classes, "x") == ['name="x"']
    changed = plan_settings(quick, Changes(3, audit="full", networks=("convnet", "vit")), ["a", "b"], "x")
    config = load_config("quick", changed)
    assert (config.distill.ipc, config.privacy.audit) == (3, "full")
    assert config.evaluate.architectures == ("convnet", "vit")


def test_stages_sum_to_the_whole_and_an_audit_adds_to_it(root):
    from view_models.presets import estimate_seconds, estimate_stages

    config = load_config("quick")
    stages = estimate_stages(config, 1000, 0.01, 0.001)
    assert sum(stages.values()) == pytest.approx(estimate_seconds(config, 1000, 0.01, 0.001))
    assert "audit" not in stages
    quick, full = (estimate_stages(config, 1000, 0.01, 0.001, audit=name)["audit"] for name in ("quick", "full"))
    assert full > quick > 0


def test_a_guess_of_the_app_is_what_the_stages_say_of_that_pace(root):
    from medidistill.pipeline.stages import stages_of
    from view_models.presets import estimate_stages

    config = load_config("quick")
    stages = estimate_stages(config, 1000, 0.01, 0.001)
    assert list(stages) == [stage.name for stage in stages_of(config)]
    batches = 1000 * (1 - config.ingest.val_fraction - config.ingest.test_fraction) // config.experts.batch_size
    steps = config.experts.count * config.experts.epochs * batches
    assert stages["experts"] == pytest.approx(steps * (0.01 + config.experts.batch_size * 0.001))
    twice = estimate_stages(config, 1000, 0.02, 0.002)
    paced = [name for name in stages if name not in ("ingest", "export", "report")]
    assert [twice[name] for name in paced] == pytest.approx([2 * stages[name] for name in paced])


def test_first_view_reads_no_folder(open_page, made, monkeypatch, text_of):
    from view_models import sources

    monkeypatch.setenv("MEDIDISTILL_IMAGES", str(made.root))
    monkeypatch.setattr(sources, "find_records", lambda *_: pytest.fail("a folder was read"))
    for page in ("", "new_run", "data", "runs"):
        test = open_page(page)
        assert not test.metric
    assert [one.label for one in open_page("new_run").button if one.key == "look_here"] == ["Look into this folder"]


def test_chosen_folder_is_found_again_by_its_number_and_its_name_is_not_in_the_address(
    new_run, open_page, made, text_of
):
    test = new_run()
    key = test.query_params["data"]
    assert "phantom" not in key
    again = open_page("home")
    again.query_params["data"] = key
    again.switch_page("app_pages/new_run.py").run()
    found = r"\*\*phantoms\*\*: \*\*\d+ images\*\*, \*\*24 patients\*\*, \*\*3 classes\*\*"
    assert re.search(found, text_of(again))


def test_remembered_folder_that_may_not_be_read_any_more_is_forgotten(root, made, monkeypatch):
    from view_models.new_run import remember_source, remembered_source
    from view_models.places import Places

    monkeypatch.setenv("MEDIDISTILL_IMAGES", str(made.root))
    key = remember_source(Places.of(), made.phantoms)
    assert remembered_source(Places.of(), key) == made.phantoms
    monkeypatch.setenv("MEDIDISTILL_IMAGES", "")
    assert remembered_source(Places.of(), key) is None
    assert remembered_source(Places.of(), "unknown") is None


def test_estimate_waits_for_the_measurement_and_blocks_nobody(root, monkeypatch):
    from view_models import presets

    config = load_config("demo")
    network = dataclasses.replace(config.network, width=5)
    assert presets.known_step(network, 16) is None or presets.known_step(network, 16)[0] > 0
    presets._asked[(network, 16)].result(60)
    step, image = presets.known_step(network, 16)
    assert step > 0
    assert image >= 0


def test_settings_of_the_environment_are_read_as_the_command_line_reads_them(new_run, monkeypatch):
    from view_models.presets import presets

    monkeypatch.setenv("MEDIDISTILL_SET__distill__ipc", "7")
    assert {one.config.distill.ipc for one in presets()} == {7}
    test = new_run()
    (ipc,) = (one for one in test.number_input if one.label == "Synthetic images per class")
    assert ipc.value == 7


def test_wrong_setting_of_the_environment_is_named_on_the_page(new_run, monkeypatch):
    monkeypatch.setenv("MEDIDISTILL_SET_distill_ipc", "7")
    test = new_run()
    assert "MEDIDISTILL_SET__distill__ipc" in " ".join(one.value for one in test.error).replace("\\_", "_")


def test_an_image_never_counts_as_nothing_where_the_smaller_batch_was_the_slower_one(monkeypatch):
    from view_models import presets

    ticks = iter([0.0, 9.0, 10.0, 11.0])  # four images took nine seconds, sixteen took one
    monkeypatch.setattr(presets, "time", types.SimpleNamespace(perf_counter=lambda: next(ticks)))
    step, image = presets.measured_step.__wrapped__(NetworkConfig(width=2, depth=1), 8)
    assert (step, image) == (pytest.approx(0.75), pytest.approx(1 / 64))


def _folder(parent, name, classes):
    for place, label in enumerate(classes):
        (parent / name / label).mkdir(parents=True)
        for i in range(2):
            (parent / name / label / f"{i}.png").write_bytes(picture(10 * place + i))
    return parent / name


def _start_and_reasons(test):
    assert not test.exception
    return next(one for one in test.button if one.key == "start_run").disabled, [
        one.value for one in test.warning if ":material/block:" in one.icon
    ]


def test_an_emptied_choice_is_no_choice_of_the_presets(new_run):
    test = new_run()
    assert _start_and_reasons(test)[1] == []
    (networks,) = (one for one in test.multiselect if one.label == "Networks")
    networks.set_value([]).run()
    assert _start_and_reasons(test) == (True, ["Choose at least one network."])
    (arms,) = (one for one in test.multiselect if one.label == "Compare networks that are trained on")
    arms.set_value([]).run()
    stays, reasons = _start_and_reasons(test)
    assert (stays, len(reasons)) == (True, 2)


def test_a_class_that_the_preset_does_not_list_is_said_before_the_start(root, monkeypatch, tmp_path):
    from view_models.new_run import Changes, problems
    from view_models.presets import presets
    from view_models.sources import read_source

    preset = next(one for one in presets() if one.config.ingest.classes)
    names = preset.config.ingest.classes
    fits, over = (read_source(_folder(tmp_path, name, also)) for name, also in (("a", names), ("b", (*names, "Other"))))
    assert problems(preset.config, Changes(), fits) == []
    (told,) = problems(preset.config, Changes(), over)
    assert "a label of 2 images is not one of the classes" in told


@pytest.mark.parametrize(
    ("there", "told"),
    [
        (("Normal", "Pneumonia"), ""),
        (("Normal", "Pneumonia", "Other"), "is not one of the classes Normal, Pneumonia"),
        (("Normal", "Other"), "is not one of the classes Normal, Pneumonia"),
        (("Normal",), "class 'Pneumonia' has no usable images"),
        ((), "cannot be used"),
    ],
)
def test_a_test_set_from_elsewhere_must_have_the_classes_of_the_run(there, told, root, monkeypatch, tmp_path):
    from view_models.new_run import Changes, problems
    from view_models.sources import read_source

    own = read_source(_folder(tmp_path, "own", ("Normal", "Pneumonia")))
    (tmp_path / "there").mkdir()
    external = read_source(_folder(tmp_path, "there", there))
    found = problems(load_config("quick"), Changes(), own, external)
    assert ([one for one in found if told in one] == found) if told else found == []
    assert bool(found) is bool(told)


def test_no_start_with_an_empty_folder_from_elsewhere(new_run, made, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("MEDIDISTILL_IMAGES", f"{made.root}:{tmp_path}")
    test = new_run(test_external=True, external_from=str(tmp_path), external_here=str(tmp_path / "empty"))
    stays, (reason,) = _start_and_reasons(test)
    assert stays
    assert "The X-rays from elsewhere cannot be used" in reason
