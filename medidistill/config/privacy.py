"""The policy of a release, and the policy that applies to a run."""

from __future__ import annotations

from dataclasses import dataclass

from medidistill.config.fields import Validated, choice, flag, number, text
from medidistill.errors import ConfigError

__all__ = ["DPConfig", "PolicyConfig", "PrivacyConfig"]


@dataclass(frozen=True)
class PolicyConfig(Validated):
    """Rules of the gate; a site writes its own as a YAML file of these keys."""

    name: str = text("default", "printed in the card")
    patients: bool = flag(
        True, "false: for phantom images only; no rule about patients is applied, and that is printed"
    )
    linkage_p: float = number(0.01, "smallest p value of the linkage test that passes", 1e-6, 0.5)
    copies: int = number(0, "images that may lie nearer to a member than 99 % of non-members do", 0, 1000)
    fpr: float = number(0.01, "false-positive rate at which the attacks are judged", 1e-4, 0.2)
    natural_tpr: float = number(0.03, "largest upper limit of the true-positive rate, real patients", 1e-3, 1.0)
    canary_tpr: float = number(0.10, "largest upper limit of the true-positive rate, planted canaries", 1e-3, 1.0)
    proven_epsilon: float = number(
        0.5,
        "largest lower bound on epsilon from the attacks on a set without a guarantee; 0.5: 62 % of guesses are right",
        0,
        30,
    )
    epsilon_open: float = number(2.0, "guarantees up to this epsilon need no agreement with the recipient", 0.0, 100.0)
    epsilon_agreement: float = number(8.0, "above this epsilon no guarantee is printed", 0.0, 100.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        for limit in ("natural_tpr", "canary_tpr"):
            if getattr(self, limit) <= self.fpr:
                raise ConfigError(
                    f"PolicyConfig.{limit}={getattr(self, limit)!r}: must be > fpr={self.fpr:g}, the rate of an attack "
                    "that only guesses; no number of patients could show less"
                )
        if self.epsilon_open > self.epsilon_agreement:
            raise ConfigError(f"PolicyConfig.epsilon_open={self.epsilon_open!r}: must be <= {self.epsilon_agreement:g}")


@dataclass(frozen=True)
class PrivacyConfig(Validated):
    """What is measured before a bundle may leave, and by which rules it is judged."""

    policy: str = text("default", "`default`, `phantom`, or a YAML file with the rules of the site")
    audit: str = choice(
        "none", "audit that a whole run makes; without one its bundle is not released", "none", "quick", "full"
    )
    release_check: bool = flag(
        True, "end a run after ingest where the gate would refuse its release whatever the audit finds"
    )
    recipient: str = text("", "who receives the set and under which terms; part of the record")
    ledger: str = text(
        "", "JSON file that adds up the releases of a cohort; empty: privacy-ledger.json beside the run folder"
    )


@dataclass(frozen=True)
class DPConfig(Validated):
    """Differentially private experts; the unit is the patient. All numbers here are public."""

    enabled: bool = flag(False, "train the experts by DP-SGD; nothing is then chosen on private patients")
    epsilon: float = number(8.0, "epsilon of all experts and steps together", 0.01, 100.0)
    delta: float = number(1e-5, "delta; well below one over the number of patients", 1e-12, 0.1)
    clip: float = number(1.0, "largest norm of a patient's mean gradient", 1e-6, 1e6)
    sampling_rate: float = number(0.1, "probability of each patient to be in a step, fixed beforehand", 1e-6, 1.0)
    expected_patients: int = number(100, "public divisor of the summed gradients", 1, 10_000_000)
    steps_per_epoch: int = number(10, "steps between two snapshots", 1, 1_000_000)
    views: int = number(1, "augmented views of each image that are averaged", 1, 64)
    noise_multiplier: float = number(0.0, "sigma; 0: computed from epsilon", 0.0, 1e6)
