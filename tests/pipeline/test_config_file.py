"""The configuration file: what is read, what is refused, and how it says so."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medidistill.config import PolicyConfig, RunConfig, as_dict, digest
from medidistill.config.fields import digested
from medidistill.errors import ConfigError
from medidistill.pipeline.config_io.config_file import (
    HEADER,
    Setting,
    differences,
    dump_config,
    environment_settings,
    load_config,
    load_section,
)
from medidistill.pipeline.config_io.resources import preset_files


def _write(tmp_path, text):
    file = tmp_path / "run.yaml"
    file.write_text(text)
    return file


def test_file_and_overrides_reach_the_nested_sections(tmp_path):
    file = _write(
        tmp_path, "distill: {ipc: 7, importance: {granularity: element}}\nevaluate: {small_set_training: {lr: 5e-3}}\n"
    )
    config = load_config(
        file, ["distill.ipc=9", "ingest.classes=[a, b]", "evaluate.small_set_training.augment.shift=0.1"]
    )
    assert config.distill.ipc == 9
    assert config.distill.importance.granularity == "element"
    assert config.evaluate.small_set_training.lr == 0.005
    assert config.ingest.classes == ("a", "b")
    assert config.evaluate.small_set_training.augment.shift == 0.1
    assert config.experts == RunConfig().experts


def test_dump_reads_back_to_the_same_configuration(tmp_path):
    config = load_config("covid-cxr", ["distill.lr_images=1e-5"])
    assert load_config(_write(tmp_path, dump_config(config))) == config


@pytest.mark.parametrize("name", sorted(preset_files()))
def test_presets_are_valid(name):
    assert isinstance(load_config(name), RunConfig)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("distil: {ipc: 5}", "unknown key 'distil' (did you mean 'distill'?)"),
        ("distill: {ipcs: 5}", "unknown key 'distill.ipcs' (did you mean 'ipc'?)"),
        ("distill: {importance: {granularty: tensor}}", "unknown key 'distill.importance.granularty'"),
        ("distill: {ipc: many}", "distill.ipc='many': must be a whole number"),
        ("distill: {ipc: 0}", "distill.ipc=0: must be in [1, 100000]"),
        ("distill: {ipc: 2.5}", "distill.ipc=2.5: must be a whole number"),
        ("distill: 3", "distill=3: must be a section of keys"),
        ("distill: {soft_labels: 1}", "distill.soft_labels=1: must be true or false"),
        ("distill: {importance: {direction: descent}}", "did you mean 'descend'?"),
        ("ingest: {classes: [1, 2]}", "ingest.classes=[1, 2]: must be a list of names"),
        ("ingest: {classes: a}", "ingest.classes='a': must be a list of names"),
        ("distill: {importance: {tau: .nan}}", "distill.importance.tau=nan: must be a finite number"),
        ("distill: {importance: {tau: .inf}}", "distill.importance.tau=inf: must be a finite number"),
        ("memory_check: yes", "memory_check='yes': must be true or false"),
        ("evaluate: {arms: [ful]}", "evaluate.arms=['ful']: must be one of full, random"),
        ("distill: {bits: 3}", "distill.bits=3: must be one of 0, 2, 4, 8, 32"),
        ("seed: 2026-01-02", "seed='2026-01-02': must be a whole number"),
        ("methods: {iadd: 3}", "methods={'iadd': 3}: must be a section for each name, as {bptt: {lr_images: 0.02}}"),
        ("methods: {mtt: {ipc: 50}}", "methods.mtt.ipc=50: must not be set for one method alone"),
        ("methods: 3", "methods=3: must be a section for each name"),
        ("ingest: {labels: 3}", "ingest.labels=3: must be text"),
        ("seed: 1\nseed: 2", "line 2: not valid YAML (key 'seed' is given twice)"),
        ("seed: [1", "not valid YAML"),
        ("- a\n- b", "the file: must be a section of keys"),
        ("distill: {max_start: 30}", "distill.max_start=30 with expert_epochs=2 needs snapshot 31"),
    ],
)
def test_refusals_name_file_key_and_remedy_in_one_line(tmp_path, text, expected):
    file = _write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    message = str(caught.value)
    assert expected in message
    assert message.startswith(str(file))
    assert "\n" not in message
    assert "Config" not in message  # no name of a Python class


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("distill.ipc", "--set distill.ipc: must look like distill.ipc=10"),
        ("distill.ipc=no", "--set: distill.ipc='no': must be a whole number"),
        ("distill.icp=1", "--set: unknown key 'distill.icp' (did you mean 'ipc'?)"),
        ("distill.ipc=[1", "--set distill.ipc, line 1: not valid YAML"),
    ],
)
def test_refused_overrides_name_the_option(option, expected):
    with pytest.raises(ConfigError) as caught:
        load_config("quick", [option])
    assert str(caught.value).startswith(expected)


def test_missing_file_lists_the_presets():
    with pytest.raises(ConfigError, match=r"quik: no such configuration file.*did you mean 'quick'\?"):
        load_config("quik")


def test_former_names_in_settings_of_a_method_are_read(tmp_path, caplog):
    file = tmp_path / "old.yaml"
    file.write_text("methods: {snapshots: {noise: 0.4}}\n")
    config = load_config(str(file))
    assert config.methods == {"snapshots": {"init_std": 0.4}}
    assert "methods.snapshots.noise is called methods.snapshots.init_std now" in caplog.text
    assert load_config(None, ["methods.snapshots.noise=0.4"]).methods == config.methods


def test_differences_name_settings_of_methods_that_one_side_has_alone():
    old = load_config(None, ["methods.snapshots.init_std=0.4"])
    new = load_config(None, ["methods.snapshots.bits=4", "methods.kernel.factor=2"])
    assert differences(old, new) == [
        "methods.snapshots.init_std: 0.4 -> unset",
        "methods.snapshots.bits: unset -> 4",
        "methods.kernel: unset -> {'factor': 2}",
    ]


def test_differences_name_the_keys():
    old = load_config(None, ["distill.ipc=5"])
    new = load_config(None, ["distill.ipc=6", "ingest.classes=[a]"])
    assert differences(old, new) == ["ingest.classes: [] -> ['a']", "distill.ipc: 5 -> 6"]
    assert differences(old, old) == []


def test_yaml_1_2_has_fewer_traps(tmp_path):
    config = load_config(_write(tmp_path, "name: no\ningest: {classes: [yes, no, off]}\ndistill: {lr_images: 1e-3}\n"))
    assert (config.name, config.ingest.classes, config.distill.lr_images) == ("no", ("yes", "no", "off"), 0.001)


def test_a_section_that_is_left_empty_is_all_defaults(tmp_path):
    assert load_config(_write(tmp_path, "distill:\nmethods:\nevaluate: {small: }\n")) == RunConfig()


def test_on_and_off_are_words(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("distill: {compile: off}\nevaluate: {compile: on}\n")
    config = load_config(file)
    assert (config.distill.compile, config.evaluate.compile) == ("off", "on")


@pytest.mark.parametrize(
    ("overrides", "origin"),
    [
        (["distill.ipc=0"], "--set: distill.ipc=0: must be in"),
        ([Setting("distill.ipc=0", "MEDIDISTILL_SET__distill__ipc")], "MEDIDISTILL_SET__distill__ipc: distill.ipc=0"),
        (
            [Setting("distill.ipc=[", "MEDIDISTILL_SET__distill__ipc")],
            "MEDIDISTILL_SET__distill__ipc, line 1: not valid",
        ),
        (
            [Setting("distil.ipc=1", "MEDIDISTILL_SET__distil__ipc")],
            "MEDIDISTILL_SET__distil__ipc: unknown key 'distil'",
        ),
        ([Setting("distill.ipcs=1", "MEDIDISTILL_SET__distill__ipcs")], "MEDIDISTILL_SET__distill__ipcs: unknown key"),
        ([Setting("threads=-1", "--threads")], "--threads: threads=-1: must be in"),
        ([Setting("distill.precision=half", "--precision")], "--precision: distill.precision='half'"),
        (["distil.ipc=1"], "--set: unknown key 'distil'"),
        (["ingest={image_size: 8}"], "--set: ingest.image_size=8: must be in"),
        (["ingest.classes=[a, a]"], "--set: ingest.classes=['a', 'a']: 'a' is named twice"),
        (["experts.epochs=1"], "--set: distill.max_start="),  # what several settings together decide
        (
            [Setting("experts.epochs=1", "MEDIDISTILL_SET__experts__epochs")],
            "MEDIDISTILL_SET__experts__epochs: distill",
        ),
        # the last one wins, and is the one to blame
        ([Setting("distill.ipc=0", "MEDIDISTILL_SET__distill__ipc"), "distill.ipc=0"], "--set: distill.ipc=0"),
    ],
)
def test_an_error_names_where_the_setting_was_written(tmp_path, overrides, origin):
    file = _write(tmp_path, "seed: 3\n")
    with pytest.raises(ConfigError) as caught:
        load_config(file, overrides)
    assert str(caught.value).startswith(origin)


def test_a_section_that_is_set_keeps_what_is_not_given(tmp_path):
    file = _write(tmp_path, "distill: {ipc: 3, outer_steps: 7, importance: {granularity: element}}\n")
    config = load_config(file, ["distill={ipc: 4}"])
    assert (config.distill.ipc, config.distill.outer_steps, config.distill.importance.granularity) == (4, 7, "element")
    for empty in ("distill=", "distill.importance=null", "evaluate={clinical: }"):
        with pytest.raises(ConfigError, match=r"^--set \w+=: is a section and needs a setting, for example \w+\.\w+=V"):
            load_config(file, [empty])


def test_what_is_wrong_in_the_file_is_not_blamed_on_an_option(tmp_path):
    file = _write(tmp_path, "distill: {ipc: 0}\n")
    with pytest.raises(ConfigError, match=r"run\.yaml: distill\.ipc=0"):
        load_config(file, [Setting("seed=1", "MEDIDISTILL_SET__seed")])


@pytest.mark.parametrize("text", ["", "\n", "# nothing yet\n", "---\n", "~\n"])
def test_an_empty_file_is_refused(tmp_path, text):
    with pytest.raises(ConfigError, match=r"run\.yaml: is empty, or holds comments alone"):
        load_config(_write(tmp_path, text))


@pytest.mark.parametrize(
    ("name", "spelled"),
    [
        ("MEDIDISTILL_SET_distill__ipc", "MEDIDISTILL_SET__distill__ipc"),
        ("MEDIDISTILL_SET_distill_ipc", "MEDIDISTILL_SET__distill__ipc"),
        ("MEDIDISTILL_SET_DISTILL_IPC", "MEDIDISTILL_SET__distill__ipc"),
        ("medidistill_set__distill__ipc", "MEDIDISTILL_SET__distill__ipc"),
        ("MEDIDISTILL__SET__distill__ipc", "MEDIDISTILL_SET__distill__ipc"),
        ("MEDIDISTILL_SET_distil_ipc", "MEDIDISTILL_SET__distill__ipc"),
        ("MEDIDISTILL_SET_ingest_image_size", "MEDIDISTILL_SET__ingest__image_size"),
        ("MEDIDISTILL_SET_seed", "MEDIDISTILL_SET__seed"),
        ("MEDIDISTILL_SET", "MEDIDISTILL_SET__distill__ipc"),
    ],
)
def test_a_misspelt_variable_is_refused_with_the_right_spelling(name, spelled):
    with pytest.raises(ConfigError) as caught:
        environment_settings({name: "3"})
    assert str(caught.value).startswith(f"{name}: is not read; write {spelled}, with two underscores")


@pytest.mark.parametrize("name", ["MEDIDISTILL_SET__", "MEDIDISTILL_SET___distill__ipc", "MEDIDISTILL_SET__distill__"])
def test_a_variable_without_a_setting_is_refused(name):
    with pytest.raises(ConfigError, match=f"{name}: names no setting"):
        environment_settings({name: "3"})


@pytest.mark.parametrize("name", ["MEDIDISTILL_DATA", "MEDIDISTILL_RUNS", "MEDIDISTILL_SETTLE", "PATH", "MEDIDISTILL"])
def test_other_variables_are_left_alone(name):
    assert environment_settings({name: "3"}) == []


def test_a_variable_is_a_setting_that_knows_its_name():
    (found,) = environment_settings({"MEDIDISTILL_SET__distill__importance__lr": "0.5"})
    assert (found, found.origin) == ("distill.importance.lr=0.5", "MEDIDISTILL_SET__distill__importance__lr")


def test_a_former_name_is_read_and_the_present_one_is_said(tmp_path, caplog):
    file = _write(tmp_path, "distill: {noise: 0.5}\nevaluate: {small: {steps: 7}, networks: 3}\n")
    config = load_config(file, [Setting("evaluate.small.lr=0.5", "--lr")])
    training = config.evaluate.small_set_training
    assert (config.distill.init_std, training.steps, training.lr, config.evaluate.num_networks) == (0.5, 7, 0.5, 3)
    assert [record.getMessage() for record in caplog.records] == [
        f"{file}: distill.noise is called distill.init_std now",
        f"{file}: evaluate.small is called evaluate.small_set_training now",
        f"{file}: evaluate.networks is called evaluate.num_networks now",
        "--lr: evaluate.small is called evaluate.small_set_training now",
    ]


def test_what_a_run_wrote_under_former_names_is_read_without_a_word(tmp_path, caplog):
    file = _write(tmp_path, f"{HEADER}distill: {{keep_maps: 8.0}}\n")
    assert load_config(file).distill.activation_cache_mb == 8.0
    assert not caplog.records


def test_a_setting_under_both_of_its_names_is_refused(tmp_path):
    file = _write(tmp_path, "distill: {init_std: 0.5, noise: 0.2}\n")
    with pytest.raises(ConfigError, match=r"distill\.noise and distill\.init_std are one setting"):
        load_config(file)


def test_digests_are_those_of_the_former_names():
    assert digested(RunConfig().distill)["noise"] == RunConfig().distill.init_std
    assert "init_std" not in digested(RunConfig())["distill"]
    assert digest(RunConfig()) == digest(digested(RunConfig()))


def test_a_site_policy_under_former_names_is_read(tmp_path):
    file = _write(tmp_path, "natural_tpr: 0.05\nproven_epsilon: 1\ncopies: 2\n")
    policy = load_section(str(file), PolicyConfig, [])
    assert (policy.max_member_tpr, policy.max_epsilon_lower_bound, policy.max_near_copies) == (0.05, 1.0, 2)


def test_a_method_takes_settings_under_former_names():
    assert load_config(None, ["methods={bptt: {noise: 0.7}}"]).distill_by("bptt").init_std == 0.7


def _places(plain, path=()):
    """Yield the path of every section and setting."""
    for key, value in plain.items():
        yield (*path, key)
        if isinstance(value, dict):
            yield from _places(value, (*path, key))


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(list(_places(as_dict(RunConfig())))), _VALUES)
def test_any_value_at_any_place_is_read_or_refused_with_its_place(path, value):
    plain = value
    for key in reversed(path):
        plain = {key: plain}
    said = ""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "run.yaml")
        file.write_text(json.dumps(plain), encoding="utf-8")  # JSON is YAML
        try:
            load_config(file)
        except ConfigError as error:
            said = str(error)
        assert not said or said.startswith(str(file))
