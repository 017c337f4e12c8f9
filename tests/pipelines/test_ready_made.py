"""The ready-made pipelines: what their engines' own checkers say, and what of them runs here."""

from __future__ import annotations

import ast
import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from medidistill.cli.parser import make_parser
from medidistill.errors import MedidistillError, ResourceError, StoppedError
from medidistill.pipeline import load_config, preset_files
from medidistill.pipeline.release.release_check import SplitCounts, check_release


@pytest.fixture
def pipelines(root):
    return root / "pipelines"


def _commands(text):
    """Return the medidistill commands in a file of any kind, with templates and variables made plain."""
    names = "ingest|experts|run|clean|support|status|receive|deidentify|merge|nightly|intake|export|log|push|config"
    names += "|audit|pipelines|distill"
    found = re.findall(rf"medidistill\}}? ((?:{names}) [^\n;&|\"')`]*)", text.replace("\\\n", " "))
    return [re.sub(r"\{\{.*?\}\}|\$\{[^}]*\}|\$\(\w+\)|\$\w+|\{\w+\}", "X", one).split() for one in found]


@pytest.mark.parametrize(
    "name",
    [
        "kubernetes/job.yaml",
        "airflow/medidistill_dag.py",
        "nightly/nightly.sh",
        "pacs/intake.sh",
        "pacs/medidistill-listen.service",
        "pacs/medidistill-intake.service",
        "multi_hospital/site.sh",
        "multi_hospital/merge.sh",
        "../docs/pipelines.md",
    ],
)
def test_every_option_in_use_is_one_of_the_command_line(pipelines, name):
    known = make_parser()._subparsers._group_actions[0].choices
    options = {
        key: {flag for action in parser._actions for flag in action.option_strings} for key, parser in known.items()
    }
    text = (pipelines / name).read_text()
    # a shell's quotes are no end of a command; those of Python and YAML are
    text = text.replace('"', "") if name.endswith((".sh", ".service")) else text
    commands = [one for one in _commands(text) if one[0] in known]
    assert commands
    for command in commands:
        unknown = {word for word in command if word.startswith("--")} - options[command[0]]
        assert not unknown, command


@pytest.mark.parametrize(
    "name", ["nightly/nightly.sh", "pacs/intake.sh", "multi_hospital/site.sh", "multi_hospital/merge.sh"]
)
def test_shell_scripts_parse_and_may_run(pipelines, name):
    file = pipelines / name
    assert subprocess.run(["sh", "-n", file], check=False).returncode == 0
    assert file.stat().st_mode & 0o111
    assert "set -eu" in file.read_text()


def test_systemd_accepts_the_units(pipelines, tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    script = str(pipelines / "nightly" / "nightly.sh")
    # what the units start must be there to be verified
    places = {"/usr/local/lib/medidistill/nightly.sh": script, "/usr/local/bin/medidistill": script}
    found = [*(pipelines / "nightly").glob("medidistill-*"), *(pipelines / "pacs").glob("medidistill-*")]
    assert len(found) == 5
    for unit in found:
        text = unit.read_text()
        for place, here in places.items():
            text = text.replace(place, here)
        (tmp_path / unit.name).write_text(text)
    units = sorted(map(str, tmp_path.iterdir()))
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_container_is_not_root_and_copies_no_data(pipelines):
    lines = (pipelines / "container" / "Dockerfile").read_text().splitlines()
    users = [line for line in lines if line.startswith("USER ")]
    assert users[-1] == "USER 10001:10001"
    assert not [line for line in lines if line.startswith(("ADD ", "COPY . "))]


def test_kubernetes_accepts_the_manifests(pipelines):
    checker = pytest.importorskip("kubernetes_validate")
    documents = list(YAML(typ="safe").load_all((pipelines / "kubernetes" / "job.yaml").read_text()))
    assert [one["kind"] for one in documents] == ["Job", "Job", "Job", "NetworkPolicy"]
    for one in documents:
        checker.validate(one, "1.30", strict=True)
    documents[0]["spec"]["backoffLimits"] = 1
    with pytest.raises(checker.ValidationError):
        checker.validate(documents[0], "1.30", strict=True)


def test_the_dag_is_python_that_airflow_would_read(pipelines):
    file = pipelines / "airflow" / "medidistill_dag.py"
    tree = ast.parse(file.read_text())
    calls = [ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert calls.count("Command") == 4
    assert "ingest >> experts >> rest >> clean" in file.read_text()


@pytest.fixture
def submit(pipelines):
    pytest.importorskip("submitit", reason="the extra `slurm` is not installed")
    spec = importlib.util.spec_from_file_location("submit", pipelines / "slurm" / "submit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_engine_tries_again_the_same_exit_codes(pipelines, submit):
    """Those of the documentation, and 137: a process that was killed."""
    page = (pipelines.parent / "docs" / "pipelines.md").read_text()
    (said,) = re.findall(r"Only (5, 130 and 143) can succeed", " ".join(page.split()))
    transient = {int(word) for word in re.findall(r"\d+", said)} | {137}
    assert transient == {ResourceError.exit_code, *(StoppedError("", n).exit_code for n in (2, 15)), 128 + 9}
    final = {one.exit_code for one in MedidistillError.__subclasses__() if one not in (ResourceError, StoppedError)}
    assert final == {2, 3, 4, 6, 7}
    assert transient == submit.TRANSIENT
    (line,) = re.findall(r"FINAL = (.*?)  #", (pipelines / "airflow" / "medidistill_dag.py").read_text())
    assert set(range(1, 256)) - eval(line, {"frozenset": frozenset, "range": range}) == transient
    for job in YAML(typ="safe").load_all((pipelines / "kubernetes" / "job.yaml").read_text()):
        if job["kind"] == "Job":
            taken_away, exited = job["spec"]["podFailurePolicy"]["rules"]
            assert taken_away["action"] == "Ignore"
            assert (exited["action"], exited["onExitCodes"]["operator"]) == ("FailJob", "NotIn")
            assert set(exited["onExitCodes"]["values"]) == transient


@pytest.mark.parametrize(
    ("codes", "retries", "tries", "result"),
    [
        ([0], 2, 1, 0),
        ([3], 2, 1, 3),
        ([5, 143, 0], 2, 3, 0),
        ([5, 143, 137], 2, 3, 137),
        ([143, 4], 2, 2, 4),
        ([143], 0, 1, 143),
        ([-9, 0], 2, 2, 0),
    ],
)
def test_a_slurm_job_is_submitted_again_where_that_can_help(
    submit, tmp_path, monkeypatch, codes, retries, tries, result
):
    """The jobs are real processes of the local executor; each ends with the next code of the list."""
    count, program = tmp_path / "count", tmp_path / "python"
    program.write_text(
        f"#!/bin/sh\necho >> {count}\nset -- {' '.join(map(str, codes))}\nshift $(($(wc -l < {count}) - 1))\n"
        '[ "$1" -ge 0 ] || kill $1 $$\nexit $1\n'
    )
    program.chmod(0o755)
    executor = submit.submitit.AutoExecutor(folder=tmp_path / "logs", cluster="debug")
    monkeypatch.setattr(submit.sys, "executable", str(program))
    assert submit.run_stage(executor, [(str(tmp_path), ["run"], [])], retries) == result
    assert len(count.read_text().splitlines()) == tries


@pytest.mark.slow
def test_slurm_jobs_run_on_the_local_executor(submit, tmp_path):
    source = tmp_path / "none"
    options = ["--input", str(source), "--output", str(tmp_path / "out"), "--cluster", "local", "--shards", "2"]
    # the input is missing: the code of the first job is the script's
    assert submit.main([*options, "--logs", str(tmp_path / "logs"), "--config", "quick"]) == 3


def test_no_pipeline_names_the_place_of_this_checkout(pipelines):
    here = str(Path(pipelines).resolve().parent)
    for file in Path(pipelines).rglob("*"):
        if file.is_file() and file.suffix != ".pyc":
            assert here not in file.read_text(), file


# the public collection that the examples use: films and patients by split
COLLECTION = {"images": {"train": 1650, "val": 241, "test": 480}, "patients": {"train": 1159, "val": 168, "test": 316}}
READY = sorted(name for name in preset_files() if "/" not in name)


def cohort(share):
    """Return 4,000 films of as many patients, `share` of them in the training split."""
    train = round(4000 * share)
    sizes = {"train": train, "val": (4000 - train) // 2, "test": 4000 - train - (4000 - train) // 2}
    return {"images": sizes, "patients": sizes}


def test_no_ready_made_configuration_is_left_out(root):
    assert sorted(file.stem for file in (root / "pipelines" / "configs").glob("*.yaml")) == READY
    assert {"demo", "quick", "standard", "private", "paper"} <= set(READY)


@pytest.mark.parametrize("name", [name for name in READY if name != "demo"])
@pytest.mark.parametrize("profile", ["quick", "full"])
@pytest.mark.parametrize(
    ("classes", "counts"), [(3, COLLECTION), *((2, cohort(share)) for share in (0.5, 0.65, 0.7, 0.75))]
)
def test_every_configuration_makes_enough_images_for_the_gate(name, profile, classes, counts):
    check = check_release(load_config(name, [f"privacy.audit={profile}"]), SplitCounts(classes=classes, **counts))
    assert check.wanted
    assert check.unresolvable == ()
    assert not check.false_alarms


@pytest.mark.parametrize(("patients", "enough"), [(560, False), (580, True)])
def test_as_many_patients_as_the_page_says_are_enough_for_an_audit(pipelines, patients, enough):
    page = (pipelines.parent / "docs" / "pipelines.md").read_text()
    assert "some 580 in all at the usual split" in " ".join(page.split())
    config = load_config("standard", ["privacy.audit=quick"])
    val, test = (round(patients * share) for share in (config.ingest.val_fraction, config.ingest.test_fraction))
    sizes = {"train": patients - val - test, "val": val, "test": test}
    check = check_release(config, SplitCounts(classes=2, images=sizes, patients=sizes))
    assert (check.unresolvable == ()) is enough


@pytest.mark.parametrize(
    "settings",
    [
        ["methods={snapshots: {init: real}}", "deliver=mtt_warm"],
        ["methods={snapshots: {init: real}, iadd: {start_from: mtt_warm}}", "deliver=iadd"],
    ],
)
def test_a_set_that_begins_with_one_of_real_images_is_never_released(settings):
    always = ["privacy.audit=quick", "evaluate.arms=[full,packed,snapshots,mtt_warm,iadd]"]

    def refused(*more):
        check = check_release(load_config("standard", [*always, *more]), SplitCounts(classes=3, **COLLECTION))
        return {rule.rule for rule in check.unresolvable}

    assert refused(*settings) == {"start"}
    assert refused(settings[1]) == set()


@pytest.mark.parametrize("name", sorted(name for name in preset_files() if "/" in name))
def test_a_recipe_of_a_published_table_begins_with_real_images_and_is_never_released(name):
    check = check_release(load_config(name, ["privacy.audit=quick"]), SplitCounts(classes=3, **COLLECTION))
    assert "start" in {rule.rule for rule in check.unresolvable}


def test_the_demo_is_held_to_the_phantom_policy():
    config = load_config("demo")
    for classes in (2, 3):
        assert check_release(config, SplitCounts(classes=classes, **COLLECTION, phantom=True)).unresolvable == ()
    (rule,) = check_release(config, SplitCounts(classes=3, **COLLECTION)).unresolvable
    assert rule.rule == "phantom"
