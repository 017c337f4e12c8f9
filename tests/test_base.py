"""The lowest floors: errors, random streams, files, configuration, record."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import json
import math
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from medidistill import config as configuration
from medidistill import errors
from medidistill.config import (
    DistillConfig,
    EvaluateConfig,
    ExpertConfig,
    ImportanceConfig,
    NetworkConfig,
    RunConfig,
    as_dict,
    digest,
)
from medidistill.config.fields import Validated, digested, rules, without_later_defaults
from medidistill.errors import ConfigError, IngestError, ResourceError, StoppedError, did_you_mean
from medidistill.files import (
    load_tensors,
    read_json,
    save_tensors,
    sha256_file,
    translate_os_errors,
    write_bytes,
    write_json,
    write_text,
)
from medidistill.record import RunRecord, versions
from medidistill.seeding import derive_seed, global_seed, stream

CONFIGS = [value for value in vars(configuration).values() if inspect.isclass(value) and issubclass(value, Validated)]
REQUIRED = {"SourceConfig": {"name": "a collection"}}  # the one setting that has no default


@contextlib.contextmanager
def small_files() -> Iterator[None]:
    """This process cannot write more than 1 KiB into a file: what a full disk does, without one.

    No fixture: the test runner may write its progress into a file before a fixture is taken down.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# errors


def test_exit_codes_are_those_of_the_manual() -> None:
    expected = {
        "MedidistillError": 1,
        "ConfigError": 2,
        "IngestError": 3,
        "PrivacyGateError": 4,
        "ResourceError": 5,
        "QuarantineError": 6,
        "DivergedError": 7,
    }
    assert {name: getattr(errors, name).exit_code for name in expected} == expected
    assert (StoppedError("x", 2).exit_code, StoppedError("x", 15).exit_code) == (130, 143)


def test_the_nearest_name_is_suggested() -> None:
    assert did_you_mean("convnt", ["resnet18", "convnet"]) == " (did you mean 'convnet'?)"
    assert did_you_mean("zzz", ["resnet18", "convnet"]) == ""


# seeding


def test_streams_are_stable_and_apart() -> None:
    # a changed derivation would silently change every published result
    assert derive_seed(0, "experts", 3) == 711550262611270013
    assert derive_seed(0, "a", "bc") != derive_seed(0, "ab", "c")
    assert derive_seed(0, "a") != derive_seed(1, "a")
    first, again, other = (torch.rand(4, generator=stream(7, *names)) for names in (("x",), ("x",), ("y",)))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_global_seed_restores_the_global_generator() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with global_seed(stream(1, "init")):
        inside = torch.rand(3)
    assert torch.equal(torch.rand(3), expected)
    with global_seed(stream(1, "init")):
        assert torch.equal(torch.rand(3), inside)


# files


def test_a_failed_write_keeps_the_old_file_and_leaves_no_part(tmp_path: Path) -> None:
    target = tmp_path / "kept.json"
    write_json(target, {"old": 1})
    with small_files(), pytest.raises(ResourceError, match=r"cannot write .*kept\.json"):
        write_bytes(target, b"x" * 5000)
    assert read_json(target) == {"old": 1}
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nothing_non_finite_reaches_json(tmp_path: Path, value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"loss": value})
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_says_what_to_do() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full on this system")

    def fill() -> None:
        with translate_os_errors(full), full.open("w") as file:
            file.write("x")

    with pytest.raises(ResourceError, match="the disk is full; free space or choose a folder elsewhere") as caught:
        fill()
    assert caught.value.exit_code == 5


def test_a_file_in_the_place_of_a_folder_is_an_error_of_ours(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "x")
    with pytest.raises(ResourceError, match="cannot write"):
        write_text(tmp_path / "file" / "below", "x")


def test_modes_are_set(tmp_path: Path) -> None:
    write_text(tmp_path / "private", "x", mode=0o600)
    assert (tmp_path / "private").stat().st_mode & 0o777 == 0o600


def test_tensors_and_header_come_back_and_bytes_repeat(tmp_path: Path) -> None:
    tensors = {"b": torch.arange(6.0).view(2, 3).t(), "a": torch.tensor([1, 2])}
    save_tensors(tmp_path / "one", tensors, {"seed": 1, "name": "x"})
    save_tensors(tmp_path / "two", dict(reversed(tensors.items())), {"name": "x", "seed": 1})
    assert sha256_file(tmp_path / "one") == sha256_file(tmp_path / "two")
    loaded, header = load_tensors(tmp_path / "one")
    assert header == {"seed": 1, "name": "x"}
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)


def test_damaged_and_foreign_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(IngestError, match="no such file"):
        load_tensors(tmp_path / "absent")
    save_tensors(tmp_path / "cut", {"a": torch.ones(100)}, {})
    (tmp_path / "cut").write_bytes((tmp_path / "cut").read_bytes()[:-10])
    with pytest.raises(IngestError, match="cut: damaged"):
        load_tensors(tmp_path / "cut")
    save_file({"a": torch.ones(2)}, tmp_path / "foreign")
    with pytest.raises(IngestError, match="without a medidistill header"):
        load_tensors(tmp_path / "foreign")
    for bad in (b"{\xff", b"[" * 100_000, b"9" * 5000):
        (tmp_path / "bad.json").write_bytes(bad)
        with pytest.raises(IngestError, match="not valid JSON"):
            read_json(tmp_path / "bad.json")


def test_one_changed_bit_or_word_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "kept"
    tensors = {"a": torch.arange(6.0).reshape(2, 3), "flag": torch.tensor(True), "none": torch.empty(0, 2)}
    save_tensors(path, tensors, {"kind": "x", "seed": 1})
    whole = path.read_bytes()
    back, header = load_tensors(path)
    assert header == {"kind": "x", "seed": 1}
    assert all(torch.equal(back[name], tensors[name]) for name in tensors)
    # the same bytes however often it is read and written again
    save_tensors(path, back, {**header, "sha256": "of an older content"})
    assert path.read_bytes() == whole
    for change in (whole[:-1] + bytes([whole[-1] ^ 1]), whole.replace(b'\\"seed\\": 1', b'\\"seed\\": 2')):
        assert change != whole
        path.write_bytes(change)
        with pytest.raises(IngestError, match=r"kept: damaged: .*checksum differs"):
            load_tensors(path)


def test_files_of_before_there_were_checksums_are_read(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "old", metadata={"medidistill": '{"kind": "x"}'})
    assert load_tensors(tmp_path / "old")[1] == {"kind": "x"}


# configuration


@pytest.mark.parametrize("kind", CONFIGS, ids=lambda kind: kind.__name__)
def test_every_field_has_help_and_a_default_inside_its_range(kind: type) -> None:
    kind(**REQUIRED.get(kind.__name__, {}))
    for name, rule in rules(kind).items():
        assert rule.help, f"{kind.__name__}.{name} has no help text"


@pytest.mark.parametrize("kind", CONFIGS, ids=lambda kind: kind.__name__)
def test_every_bound_is_enforced(kind: type) -> None:
    for name, rule in rules(kind).items():
        for limit, step in ((rule.range.low, -1), (rule.range.high, 1)) if rule.range else ():
            if math.isfinite(limit):
                with pytest.raises(ConfigError, match=rf"{kind.__name__}\.{name}=.*: must be"):
                    kind(**{name: rule.kind(limit + step)})
        if rule.options:
            with pytest.raises(ConfigError, match="must be one of"):
                kind(**{name: ("no such choice",) if rule.listed else "no such choice"})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DistillConfig(ipc=0), r"DistillConfig\.ipc=0: must be in \[1, 100000\]"),
        (lambda: DistillConfig(ipc=2.5), "must be a whole number"),  # type: ignore[arg-type]
        (lambda: DistillConfig(ipc=True), "must be a whole number"),
        (lambda: DistillConfig(alpha=float("nan")), "must be a finite number"),
        (lambda: DistillConfig(alpha="0.1"), "must be a finite number"),  # type: ignore[arg-type]
        (lambda: DistillConfig(soft_labels="yes"), "must be true or false"),  # type: ignore[arg-type]
        (lambda: RunConfig(name=3), "must be text"),  # type: ignore[arg-type]
        (lambda: NetworkConfig(name="convnt"), r"must be one of convnet, .*\(did you mean 'convnet'\?\)"),
        (lambda: EvaluateConfig(arms=("full", "iad")), r"\(did you mean 'iadd'\?\)"),
        (lambda: DistillConfig(min_start=8, max_start=8), "must be < max_start=8"),
        (lambda: ImportanceConfig(constraint="none", direction="ascend"), "grows without bound"),
        (lambda: RunConfig(experts=ExpertConfig(epochs=4)), r"needs snapshot 9, experts\.epochs=4 ends before"),
    ],
)
def test_wrong_values_are_named_with_what_is_allowed(make: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        make()  # type: ignore[operator]
    assert "\n" not in str(caught.value)


def test_configurations_are_frozen_plain_and_named_by_content() -> None:
    one = DistillConfig(ipc=1, alpha=1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.ipc = 2  # type: ignore[misc]
    assert isinstance(one.alpha, float)
    assert EvaluateConfig(arms=["full"]).arms == ("full",)  # type: ignore[arg-type]
    assert json.loads(json.dumps(as_dict(RunConfig()))) == as_dict(RunConfig())
    assert digest(one) == digest(DistillConfig(ipc=1, alpha=1.0)) == digest(digested(one))
    assert digest(one) != digest(DistillConfig(ipc=2, alpha=1.0))
    assert digest(one, 0) != digest(one, 1)


def test_a_setting_that_was_added_later_changes_no_digest_until_it_is_used() -> None:
    # as they were before any of the settings below
    assert digest(DistillConfig()) == "a427a1dffc1f704b"
    assert digest(ImportanceConfig()) == "8e13b99e61123e22"
    kept = without_later_defaults(DistillConfig())
    on_features = {"feature_weights", "feature_shuffle", "feature_lr", "feature_floor"}
    assert (
        set(as_dict(DistillConfig())) - set(kept)
        == {"target", "continuations", "line_epochs", "group_patients", "snapshot_weight"} | on_features
    )
    on_parameters = {"drop_share", "variance_floor", "hypergradient_every"}
    assert set(as_dict(ImportanceConfig())) - set(kept["importance"]) == on_parameters
    changed = DistillConfig(target="line", importance=ImportanceConfig(drop_share=0.25))
    assert digest(changed) not in (digest(DistillConfig()), digest(DistillConfig(target="line")))
    assert without_later_defaults(changed)["target"] == "line"
    assert without_later_defaults(changed)["importance"]["drop_share"] == 0.25


# record


def test_the_record_comes_back_as_it_was(tmp_path: Path) -> None:
    record = RunRecord(config={"seed": 1}, command="medidistill demo")
    record.stage("ingest", images=3)
    record.open_test("evaluate", "abc")
    record.save(tmp_path / "record.json")
    loaded = RunRecord.load(tmp_path / "record.json")
    assert loaded == record
    assert loaded.stages["ingest"]["images"] == 3
    assert [opening["by"] for opening in loaded.test_openings] == ["evaluate"]
    assert {"python", "torch", "medidistill"} <= versions().keys()


def test_a_record_keeps_its_order_and_notices_a_change(tmp_path: Path) -> None:
    record, file = RunRecord(config={"seed": 1}), tmp_path / "record.json"
    for stage in ("ingest", "experts"):
        record.stage(stage, images={"train": 3, "test": 1})
    record.save(file)
    assert list(RunRecord.load(file).stages) == ["ingest", "experts"]
    assert list(RunRecord.load(file).stages["ingest"]["images"]) == ["train", "test"]
    file.write_text(file.read_text().replace('"train": 3', '"train": 4', 1))
    with pytest.raises(IngestError, match=r"record\.json: damaged: .*checksum differs"):
        RunRecord.load(file)
    # one of an earlier version carries no checksum
    write_json(file, vars(record))
    assert RunRecord.load(file) == record


def test_a_record_with_unknown_fields_is_named(tmp_path: Path) -> None:
    for content in ({"future": 1}, [1]):
        write_json(tmp_path / "record.json", content)
        with pytest.raises(IngestError, match=r"record\.json: not a run record"):
            RunRecord.load(tmp_path / "record.json")


def test_tensor_files_are_what_the_safetensors_library_writes(tmp_path: Path) -> None:
    from safetensors.torch import save

    kinds = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16)
    tensors = {
        f"a {kind}": torch.arange(6).view(2, 3).to(kind) for kind in (*kinds, torch.int8, torch.uint8, torch.bool)
    }
    tensors |= {
        "empty": torch.zeros(0, 4),
        "scalar": torch.tensor(2.0),
        "transposed": torch.rand(3, 2).T,
        'q"\n': torch.ones(1),
    }
    header = {"name": 'Müller "x" \\ / \x01', "list": [1, None]}
    save_tensors(tmp_path / "ours", tensors, header)
    with safe_open(str(tmp_path / "ours"), framework="pt") as file:
        metadata = file.metadata()
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    assert (tmp_path / "ours").read_bytes() == save(contiguous, metadata=metadata)
    found, again = load_tensors(tmp_path / "ours")
    assert again == header
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())
