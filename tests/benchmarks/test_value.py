"""The table of packed sets: two budgets and two seeds on phantoms, by the command."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import value, value_tables
from medidistill.cli import main

SPLITS = ("train", "val", "test")
TINY = [
    "ingest.classes=[]",
    "network.width=4",
    "experts.epochs=5",
    "experts.count=1",
    "distill.factor=2",
    "distill.outer_steps=2",
    "methods.snapshots.outer_steps=2",
    "evaluate.arms=[full, packed, snapshots, iadd]",
    "evaluate.num_networks=1",
    "evaluate.small_set_training.steps=2",
    "evaluate.adaptive.steps=2",
    "evaluate.full_epochs=1",
    "evaluate.bootstrap=100",
]


def test_groups_without_new_cells_are_kept_and_others_replaced():
    earlier = [{"side": 64, "ipc": 1, "seeds": [0]}, {"side": 32, "ipc": 10, "seeds": [0]}]
    found = value.kept(earlier, [{"side": 32, "ipc": 10, "seeds": [0, 1]}, {"side": 32, "ipc": 5, "seeds": [3]}])
    assert [(group["side"], group["ipc"], group["seeds"]) for group in found] == [
        (32, 5, [3]),
        (32, 10, [0, 1]),
        (64, 1, [0]),
    ]


def test_a_group_of_fresh_seeds_stands_beside_the_earlier_one():
    earlier = [{"side": 32, "ipc": 10, "seeds": [0, 1]}]
    found = value.kept(earlier, [{"side": 32, "ipc": 10, "seeds": [10, 11]}])
    assert [group["seeds"] for group in found] == [[0, 1], [10, 11]]


def test_a_group_of_fewer_seeds_drops_none_of_an_earlier_one():
    earlier = [{"side": 32, "ipc": 10, "seeds": [0, 1, 2]}]
    found = value.kept(earlier, [{"side": 32, "ipc": 10, "seeds": [0, 1]}])
    assert [group["seeds"] for group in found] == [[0, 1], [0, 1, 2]]


def test_a_group_with_other_arms_stands_beside_the_earlier_one_of_its_seed():
    def group(*arms):
        return {"side": 64, "ipc": 10, "seeds": [0], "rows": [{"arm": arm} for arm in arms]}

    earlier, new = group("full", "packed", "snapshots"), group("full", "packed", "mixture")
    assert value.kept([earlier], [new]) == [earlier, new]
    assert value.kept([new], [group("full", "packed", "mixture", "gaussian")]) != [new]
    assert len(value.kept([new], [group("full", "packed", "mixture", "gaussian")])) == 1


def test_the_short_table_has_the_comparisons_with_the_most_seeds():
    span = {"estimate": 0.5, "low": 0.4, "high": 0.6}
    rows = [{"arm": "full", "balanced_accuracy": span}]
    groups = [
        {"side": 32, "ipc": ipc, "seeds": seeds, "rows": rows} for ipc, seeds in ((1, [0, 1]), (1, [10]), (5, [2, 3]))
    ]
    lines = value_tables.short_table({"groups": groups}).splitlines()
    assert lines[0] == "| trained on | bytes of 1 a class | bytes of 5 a class |"
    assert lines[2] == "| all real X-rays | 0.500 [0.400, 0.600] | 0.500 [0.400, 0.600] |"


def test_aims_are_beside_what_one_arm_keeps():
    span = {"estimate": -0.02, "low": -0.03, "high": -0.01}
    rows = [{"arm": "mixture", "share_of_full": 0.9}, {"arm": "packed", "share_of_full": 0.93}]
    gaps = [{"arm": "mixture", "minus": "packed", "metric": "balanced_accuracy", "bootstrap": span}]
    group = {"side": 32, "ipc": 10, "seeds": [0, 1], "rows": rows, "differences": gaps}
    others = [{**group, "side": 64}, {**group, "rows": rows[1:]}]
    lines = value_tables.aims_table({"groups": [group, *others]}, "mixture", 32).splitlines()
    assert lines[2:] == ["| 10 a class | 95% | 90% | 93% | 0.06 | -0.020 [-0.030, -0.010] | 2 |"]


@pytest.mark.slow
def test_two_budgets_and_two_seeds_give_a_row_for_every_arm(tmp_path):
    phantoms = tmp_path / "phantoms"
    assert main(["phantom", str(phantoms), "--patients-per-class", "8", "--size", "64", "--quiet"]) == 0
    for seed in (0, 1):
        for ipc in (1, 2):
            value.run_cell(value.Cell(16, ipc, seed), value.Source(phantoms), tmp_path / "work", TINY)
    result = value.collect([tmp_path / "work"])
    assert [(group["side"], group["ipc"], group["seeds"]) for group in result["groups"]] == [
        (16, 1, [0, 1]),
        (16, 2, [0, 1]),
    ]
    for group in result["groups"]:
        by_arm = {row["arm"]: row for row in group["rows"]}
        stored = 3 * group["ipc"] * 16 * 16
        assert by_arm["iadd"]["stored_bytes"] == stored  # classes are its labels
        # the experts' labels are counted, 3 numbers of 4 bytes an image; how many the control has differs by seed
        assert by_arm["snapshots"]["stored_bytes"] == stored + 12 * by_arm["snapshots"]["training_images"]
        assert by_arm["packed"]["stored_bytes"] <= stored + 12 * 3 * 6 * 4
        assert by_arm["full"]["share_of_full"] == 1
        assert set(group["validation_minus_packed"]) == {"snapshots", "iadd"}
    experts = [tmp_path / "work" / f"side16-ipc{ipc}-seed0" / "experts" / "expert-0000.safetensors" for ipc in (1, 2)]
    assert experts[0].stat().st_ino == experts[1].stat().st_ino  # trained once, linked
    assert len(value.table(result).splitlines()) == 2 + 2 * 4 + 2  # header, arms, a blank line and the note

    # the same seed with another arm, in a folder of its own
    arms = [
        *TINY[:-1],
        "evaluate.arms=[full,packed,gaussian]",
        "methods.gaussian={decoder: spectral, group_patients: 2}",
    ]
    value.run_cell(value.Cell(16, 1, 1), value.Source(phantoms), tmp_path / "more", arms)
    joined = value.collect([tmp_path / "work", tmp_path / "more"])["groups"]
    assert [group["seeds"] for group in joined] == [[1], [0, 1]]  # seeds that both have
    rows = {row["arm"]: row for row in joined[0]["rows"]}
    assert list(rows) == ["full", "packed", "iadd", "gaussian", "snapshots"]
    assert rows["gaussian"]["stored_as"] == "amplitudes, 512 bits"
    assert rows["snapshots"]["stored_as"] == "8 x 8, 8 bits"


@pytest.mark.slow
def test_images_of_another_set_give_rows_in_a_file_of_their_own(tmp_path):
    draws = np.random.default_rng(0)
    parts = {f"{split}_images": draws.integers(0, 256, (12, 16, 16), dtype=np.uint8) for split in SPLITS}
    labels = {f"{split}_labels": np.arange(12)[:, None] % 2 for split in SPLITS}
    np.savez(tmp_path / "made.npz", **parts, **labels)
    source = value.Source(tmp_path, "made.npz", train_images=8)
    value.run_cell(value.Cell(16, 1, 0), source, tmp_path / "work", TINY)
    [group] = value.collect([tmp_path / "work"])["groups"]
    rows = {row["arm"]: row for row in group["rows"]}
    assert rows["full"]["training_images"] == 8
    assert group["config"]["ingest"]["image_size"] == 16
    assert value_tables.result_file("made.npz").name == "value_made.json"
