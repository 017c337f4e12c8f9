from __future__ import annotations

import json
from pathlib import Path

import pytest

from medidistill.errors import ConfigError, IngestError
from medidistill.privacy import Event, ProvenanceLog, cohort

DP = {"noise_multiplier": 1.0, "sampling_rate": 0.1, "steps": 100, "delta": 1e-5}


def event(kind: str, mechanism: str = "none", **changes: object) -> Event:
    values: dict[str, object] = {"split": "train", "patients": 3, "cohort": "c", "mechanism": mechanism}
    values["parameters"] = DP if mechanism != "none" else {}
    return Event(kind, **(values | changes))  # type: ignore[arg-type]


def test_an_unknown_event_is_refused_and_the_nearest_is_named() -> None:
    with pytest.raises(ConfigError, match="did you mean 'train_experts'"):
        event("train_expert")
    with pytest.raises(ConfigError, match="event mechanism 'dp-sgd'"):
        event("train_experts", "dp-sgd")
    with pytest.raises(ConfigError, match="event origin"):
        event("read", origin="somewhere")


@pytest.mark.parametrize("value", [None, 0, -1.0, "1", True])
def test_a_mechanism_without_its_cost_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match=r"noise_multiplier=.*must be > 0"):
        event("train_experts", "dp_sgd", parameters={**DP, "noise_multiplier": value})


def test_no_mechanism_no_guarantee() -> None:
    assert ProvenanceLog([event("read"), event("train_experts")]).claim().kind == "none"
    assert ProvenanceLog([event("read"), event("train_experts", "dp_sgd")]).claim().kind == "dp"


@pytest.mark.parametrize(
    "kind",
    [
        *("fit_normalisation", "weigh_parameters", "select_step", "choose_training", "start_from_real"),
        *("real_batches", "match_features", "continue_experts"),
    ],
)
def test_one_bare_touch_that_reaches_the_set_ends_the_guarantee(kind: str) -> None:
    claim = ProvenanceLog([event("train_experts", "dp_sgd"), event(kind, split="val")]).claim()
    assert claim.kind == "none"
    assert len(claim.reasons) == 1
    assert "without a privacy mechanism" in claim.reasons[0]
    assert claim.events == ()


def test_figures_and_public_images_do_not() -> None:
    manifest = ProvenanceLog([event("train_experts", "dp_sgd"), event("score", split="test"), event("audit")])
    manifest.add(event("select_step", split="val", origin="public"))
    assert manifest.claim().kind == "dp"


def test_phantoms_are_no_patients_and_nothing_is_no_provenance() -> None:
    assert ProvenanceLog([event("train_experts", origin="phantom")]).claim().kind == "no_patients"
    for events in ([], [event("read")], [event("select_step", split="val")]):
        with pytest.raises(ConfigError, match="no event records what the set was learned from"):
            ProvenanceLog(events).claim()


def test_history_accumulates_and_the_same_work_counts_once(tmp_path: Path) -> None:
    manifest = ProvenanceLog()
    assert manifest.add(event("train_experts", "dp_sgd", inputs="a"))
    assert not manifest.add(event("train_experts", "dp_sgd", inputs="a"))
    assert manifest.add(event("train_experts", "dp_sgd", inputs="b"))
    manifest.save(tmp_path / "p.json")
    again = ProvenanceLog.load(tmp_path / "p.json")
    assert again.events == manifest.events
    assert len(again.claim().events) == 2
    assert (tmp_path / "p.json").stat().st_mode & 0o777 == 0o600


def test_a_manifest_with_an_unknown_event_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    assert ProvenanceLog.load(path).events == []
    manifest = ProvenanceLog([event("read")])
    manifest.save(path)
    plain = json.loads(path.read_text())
    del plain["sha256"]
    plain["events"][0]["kind"] = "peek"
    path.write_text(json.dumps(plain))
    with pytest.raises(ConfigError, match="'peek'"):
        ProvenanceLog.load(path)
    path.write_text(json.dumps({"format": 99, "events": []}))
    with pytest.raises(IngestError, match="newer"):
        ProvenanceLog.load(path)
    path.write_text(json.dumps({"events": [{}]}))
    with pytest.raises(IngestError, match="not a provenance log"):
        ProvenanceLog.load(path)


def test_a_cohort_is_its_patients_in_any_order() -> None:
    assert cohort(["b", "a", "a"]) == cohort(["a", "b"])
    assert cohort(["a", "b"])[0] == 2
    assert cohort(["a", "b"])[1] != cohort(["ab"])[1]
