"""The protocol with real, tiny networks: pairing, choice on validation, a closed test split, resumable results."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from medidistill.config import NetworkConfig, TrainingConfig, as_dict
from medidistill.errors import ConfigError, DivergedError, IngestError
from medidistill.evaluate.metrics import balanced_accuracy_score
from medidistill.evaluate.protocol import SELECTION_NETWORKS, Arm, ArmRun, run_arm
from medidistill.files import save_tensors
from medidistill.seeding import stream

NETWORK = NetworkConfig(width=4, depth=2)
GOOD = TrainingConfig(steps=60, batch_size=16, lr=0.05, schedule="constant")
SHORT = dataclasses.replace(GOOD, steps=10)  # where nothing need be learned
IDLE = TrainingConfig(steps=1, batch_size=16, lr=0.0)


def bars(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Three classes: horizontal stripes, vertical stripes, noise alone; (n, 1, 16, 16)."""
    generator = stream(seed, "bars")
    labels = torch.arange(n) % 3
    stripes = torch.tensor([1.0, 1.0, -1.0, -1.0]).repeat(4)
    pattern = torch.stack([stripes[:, None].expand(16, 16), stripes[None, :].expand(16, 16), torch.zeros(16, 16)])
    return pattern[labels][:, None] + 0.7 * torch.randn(n, 1, 16, 16, generator=generator), labels


IMAGES, LABELS = bars(48, 0)
VAL, VAL_LABELS = bars(30, 1)
TEST, _ = bars(30, 2)


def run(arm: Arm, *, test=TEST, networks=2, seed=0, **others) -> ArmRun:
    return run_arm(
        arm,
        network=NETWORK,
        val_images=VAL,
        val_labels=VAL_LABELS,
        test_images=test,
        num_classes=3,
        networks=networks,
        seed=seed,
        **others,
    )


def test_networks_learn_and_the_run_tells_what_it_did():
    seen = []
    result = run(
        Arm("full", IMAGES, LABELS, (GOOD,), {"ipc": 16}), networks=3, on_network=lambda *now: seen.append(now)
    )
    assert (result.arm, result.architecture, result.training_images) == ("full", "convnet", 48)
    assert result.chosen == GOOD
    assert result.info == {"ipc": 16}
    assert result.test_probabilities.shape == (3, 30, 3)
    assert result.test_probabilities.sum(-1) == pytest.approx(1, abs=1e-5)
    assert result.val_score > 0.8
    assert result.val_score == pytest.approx(np.mean(result.val_balanced_accuracy))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_same_seed_same_numbers_other_seed_others():
    arm = Arm("random", IMAGES[:6], LABELS[:6], (SHORT,))
    first, again, other = run(arm), run(arm), run(arm, seed=1)
    assert np.array_equal(first.test_probabilities, again.test_probabilities)
    assert not np.array_equal(first.test_probabilities, other.test_probabilities)
    assert not np.array_equal(first.test_probabilities[0], first.test_probabilities[1])


def test_arms_are_paired_whatever_their_name_or_candidates():
    alone = run(Arm("a", IMAGES[:6], LABELS[:6], (SHORT,)))
    chosen = run(Arm("b", IMAGES[:6], LABELS[:6], (SHORT, IDLE)))
    assert chosen.chosen == SHORT
    assert np.array_equal(alone.test_probabilities, chosen.test_probabilities)


def test_untrained_networks_of_two_arms_start_from_the_same_weights():
    first = run(Arm("a", IMAGES[:3], LABELS[:3], (IDLE,)))
    second = run(Arm("b", IMAGES[9:15], LABELS[9:15], (IDLE,)))
    assert np.array_equal(first.test_probabilities, second.test_probabilities)


def test_best_candidate_on_validation_wins_and_every_trial_is_counted():
    seen = []
    arm = Arm("random", IMAGES[:12], LABELS[:12], (IDLE, GOOD))
    result = run(arm, on_network=lambda *now: seen.append(now))
    assert result.chosen == GOOD
    assert result.candidate_scores[1] > result.candidate_scores[0]
    assert seen[-1] == (2 * SELECTION_NETWORKS + 2, 2 * SELECTION_NETWORKS + 2)


def test_the_best_candidate_wins_wherever_it_stands():
    for place in range(3):
        candidates = [IDLE] * 3
        candidates[place] = GOOD
        assert run(Arm("random", IMAGES[:12], LABELS[:12], tuple(candidates)), networks=1).chosen == GOOD


def test_a_second_test_set_is_predicted_by_the_same_networks():
    arm = Arm("random", IMAGES[:6], LABELS[:6], (SHORT,))
    both = run(arm, external_images=VAL)
    assert np.array_equal(both.external_probabilities, both.val_probabilities)
    assert np.array_equal(both.test_probabilities, run(arm).test_probabilities)
    assert run(arm).external_probabilities is None


def test_closed_test_split_gives_no_test_probabilities():
    arm = Arm("random", IMAGES[:6], LABELS[:6], (SHORT,))
    closed = run(arm, test=None)
    assert closed.test_probabilities is None
    assert closed.val_balanced_accuracy == run(arm).val_balanced_accuracy


def test_soft_labels_train_too():
    soft = torch.nn.functional.one_hot(LABELS, 3).float() * 0.9 + 0.1 / 3
    assert run(Arm("soft", IMAGES, soft, (GOOD,))).val_score > 0.8


def test_a_diverging_candidate_loses_and_a_diverging_arm_stops():
    wild = dataclasses.replace(GOOD, lr=100.0, momentum=0.99)
    images = IMAGES[:6] * 1e20
    with pytest.raises(DivergedError, match=r"arm random, convnet, network 0: .*lr=100"):
        run_arm(
            Arm("random", images, LABELS[:6], (wild,)),
            network=NetworkConfig(width=4, depth=2, norm="none"),
            val_images=VAL,
            val_labels=VAL_LABELS,
            test_images=None,
            num_classes=3,
            networks=1,
            seed=0,
        )
    result = run_arm(
        Arm("random", images, LABELS[:6], (wild, IDLE)),
        network=NetworkConfig(width=4, depth=2, norm="none"),
        val_images=VAL,
        val_labels=VAL_LABELS,
        test_images=None,
        num_classes=3,
        networks=1,
        seed=0,
    )
    assert result.chosen == IDLE
    assert result.candidate_scores[0] is None


def test_saved_run_comes_back_equal_with_and_without_test(tmp_path):
    arm = Arm("iadd", IMAGES[:6], LABELS[:6], (SHORT, IDLE), {"best_step": 40})
    for name, test in (("open", TEST), ("closed", None)):
        before = run(arm, test=test)
        before.save(tmp_path / name)
        after = ArmRun.load(tmp_path / name)
        for item in dataclasses.fields(ArmRun):
            if "probabilities" not in item.name:
                assert getattr(after, item.name) == getattr(before, item.name)
        assert np.array_equal(after.val_probabilities, before.val_probabilities)
        if test is None:
            assert after.test_probabilities is None
        else:
            assert np.array_equal(after.test_probabilities, before.test_probabilities)


def test_validation_probabilities_are_those_that_were_scored():
    result = run(Arm("random", IMAGES[:6], LABELS[:6], (SHORT, IDLE)))
    assert result.val_probabilities.shape == (2, 30, 3)
    scores = [balanced_accuracy_score(VAL_LABELS.numpy(), one) for one in result.val_probabilities]
    assert result.val_balanced_accuracy == pytest.approx(scores)


@pytest.mark.parametrize("with_test", [True, False])
def test_a_file_of_an_older_version_still_loads(tmp_path, with_test):
    header = {
        "kind": "arm_run",
        "format": 1,
        "arm": "iadd",
        "architecture": "convnet",
        "seed": 3,
        "chosen": as_dict(GOOD),
        "training_images": 15,
        "num_classes": 3,
        "val_balanced_accuracy": [0.5, 0.6],
        "candidate_scores": [0.5, None],
        "info": {"ipc": 5},
    }
    tensors = {"test_probabilities": torch.full((2, 4, 3), 1 / 3)} if with_test else {}
    save_tensors(tmp_path / "old", tensors, header)
    old = ArmRun.load(tmp_path / "old")
    assert old.val_probabilities is None
    assert (old.test_probabilities is not None) == with_test
    assert (old.seed, old.chosen, old.candidate_scores) == (3, GOOD, (0.5, None))


def test_a_foreign_file_is_refused(tmp_path):
    save_tensors(tmp_path / "x", {"a": torch.zeros(1)}, {"kind": "distilled_set"})
    with pytest.raises(IngestError, match="not a result of an evaluation arm"):
        ArmRun.load(tmp_path / "x")


def test_arguments_that_cannot_work_are_refused():
    with pytest.raises(ConfigError, match="candidates is empty"):
        Arm("full", IMAGES, LABELS, ())
    with pytest.raises(ConfigError, match="arm full: images"):
        Arm("full", IMAGES, LABELS[:3], (GOOD,))
    with pytest.raises(ConfigError, match="networks=0"):
        run(Arm("full", IMAGES, LABELS, (GOOD,)), networks=0)


@pytest.mark.slow
def test_networks_with_dropout_repeat_too():
    images = torch.nn.functional.interpolate(IMAGES[:6], size=64)

    def once() -> np.ndarray:
        return run_arm(
            Arm("random", images, LABELS[:6], (TrainingConfig(steps=2, lr=0.01),)),
            network=NetworkConfig(name="alexnet"),
            val_images=images,
            val_labels=LABELS[:6],
            test_images=images,
            num_classes=3,
            networks=1,
            seed=0,
        ).test_probabilities

    assert np.array_equal(once(), once())
