"""Networks trained on an arm outside a run: what they say of validation and, where it is to be opened, of test."""

from __future__ import annotations

from medidistill.config import NetworkConfig
from medidistill.evaluate import Arm, ArmRun, run_arm
from medidistill.pipeline.prepared import PreparedData

__all__ = ["trained"]


def trained(
    arm: Arm,
    network: NetworkConfig,
    data: PreparedData,
    networks: int,
    seed: int,
    *,
    predict_test: bool = False,
    compile: bool = False,
) -> ArmRun:
    """Train networks on an arm and score them on validation; no label of test is read.

    Args:
        arm: its images, normalised, and how networks may be trained on them.
        network: which networks.
        data: prepared images.
        networks: how many.
        seed: of weights and batches.
        predict_test: also keep what they predict for the test images.
        compile: compile the networks' loss.

    Raises:
        DivergedError: one of them did.
    """
    return run_arm(
        arm,
        network=network,
        val_images=data.normalised(data.val.images),
        val_labels=data.val.labels,
        test_images=data.normalised(data.test.images) if predict_test else None,
        num_classes=data.train.num_classes,
        networks=networks,
        seed=seed,
        compile=compile,
    )
