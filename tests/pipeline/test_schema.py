"""The JSON Schema says what the configuration classes say, to an independent validator."""

from __future__ import annotations

import json

import jsonschema
import pytest
from ruamel.yaml import YAML

from medidistill.cli import main
from medidistill.config import RunConfig, as_dict
from medidistill.pipeline.config_io.config_file import environment_settings, load_config
from medidistill.pipeline.config_io.resources import preset_files, schema_file
from medidistill.pipeline.config_io.schema import config_schema, config_template

VALIDATOR = jsonschema.Draft7Validator(config_schema())


def test_the_schema_is_one_and_takes_all_that_is_valid():
    jsonschema.Draft7Validator.check_schema(config_schema())
    VALIDATOR.validate(as_dict(RunConfig()))
    for file in preset_files().values():
        VALIDATOR.validate(YAML(typ="safe").load(file.read_text()))


def test_the_shipped_schema_is_current_and_every_preset_names_it():
    assert json.loads(schema_file().read_text()) == json.loads(json.dumps(config_schema())), "run `make schema`"
    for file in preset_files().values():
        first = file.read_text().splitlines()[0]
        assert first.startswith("# yaml-language-server: $schema=")
        assert (file.parent / first.partition("=")[2]).resolve() == schema_file().resolve()


@pytest.mark.parametrize(
    "text",
    ["distil: {}", "distill: {ipc: 0}", "distill: {ipc: many}", "distill: {init: reel}", "ingest: {classes: [1]}",
     "distill: {importance: {w_min: 2.0}}", "distill: 3", "evaluate: {arms: [ful]}", "distill: {soft_labels: 1}"],
)  # fmt: skip
def test_the_schema_refuses_what_the_configuration_refuses(text):
    assert not VALIDATOR.is_valid(YAML(typ="safe").load(text))


def test_every_field_has_its_help():
    schema = config_schema()
    for section in (schema, *schema["$defs"].values()):
        for name, field in section["properties"].items():
            assert field["description"], name


def test_the_template_reads_back_and_explains(tmp_path):
    config = load_config("quick", ["distill.ipc=7", 'name="a: b # c"'])
    file = tmp_path / "mine.yaml"
    file.write_text(config_template(config, "schema.json"))
    assert load_config(file) == config
    assert file.read_text().startswith("# yaml-language-server: $schema=schema.json\n")
    line = (
        "ipc: 7  # stored images per class; `factor` and `bits` make more training images of their bytes [1 to 100000]"
    )
    assert line in file.read_text()


def test_the_command_shows_checks_and_prints(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MEDIDISTILL_SET__distill__ipc", "6")
    assert main(["config", "show", "quick", "--set", "seed=9"]) == 0
    shown = YAML(typ="safe").load(capsys.readouterr().out)
    assert (shown["distill"]["ipc"], shown["seed"]) == (6, 9)
    # an option is stronger than the environment
    assert main(["config", "show", "quick", "--set", "distill.ipc=4"]) == 0
    assert YAML(typ="safe").load(capsys.readouterr().out)["distill"]["ipc"] == 4
    monkeypatch.delenv("MEDIDISTILL_SET__distill__ipc")
    assert main(["config", "schema"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(config_schema()))
    assert main(["config", "init"]) == 0
    template = capsys.readouterr().out
    assert template.startswith(f"# yaml-language-server: $schema={schema_file().as_uri()}\n")
    (tmp_path / "mine.yaml").write_text(template)
    assert main(["config", "check", str(tmp_path / "mine.yaml")]) == 0
    assert capsys.readouterr().out.endswith("mine.yaml: good\n")
    (tmp_path / "bad.yaml").write_text("distill: {ipcs: 1}\n")
    assert main(["config", "check", str(tmp_path / "bad.yaml")]) == 2
    assert "did you mean 'ipc'?" in capsys.readouterr().err
    assert main(["config", "check"]) == 2


def test_environment_names_become_dotted_keys():
    found = environment_settings(
        {"MEDIDISTILL_SET__evaluate__small_set_training__lr": "0.1", "MEDIDISTILL_DATA": "/x", "PATH": ""}
    )
    assert found == ["evaluate.small_set_training.lr=0.1"]
