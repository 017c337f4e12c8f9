"""The policy of a release, and the policy that applies to a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from medidistill.config.fields import Formerly, Help, Range, Validated
from medidistill.errors import ConfigError

__all__ = ["DPConfig", "PolicyConfig", "PrivacyConfig"]


@dataclass(frozen=True)
class PolicyConfig(Validated):
    """Rules of the gate; a site writes its own as a YAML file of these keys."""

    name: Annotated[str, Help("printed in the card")] = "default"
    patients: Annotated[
        bool, Help("false: for phantom images only; no rule about patients is applied, and that is printed")
    ] = True
    linkage_p: Annotated[float, Range(1e-6, 0.5), Help("smallest p value of the linkage test that passes")] = 0.01
    max_near_copies: Annotated[
        int,
        Formerly("copies"),
        Range(0, 1000),
        Help("images that may lie nearer to a member than 99 % of non-members do"),
    ] = 0
    fpr: Annotated[float, Range(1e-4, 0.2), Help("false-positive rate at which the attacks are judged")] = 0.01
    max_member_tpr: Annotated[
        float,
        Formerly("natural_tpr"),
        Range(1e-3, 1.0),
        Help("largest upper limit of the true-positive rate, real patients"),
    ] = 0.03
    max_canary_tpr: Annotated[
        float,
        Formerly("canary_tpr"),
        Range(1e-3, 1.0),
        Help("largest upper limit of the true-positive rate, planted canaries"),
    ] = 0.10
    max_epsilon_lower_bound: Annotated[
        float,
        Formerly("proven_epsilon"),
        Range(0, 30),
        Help(
            "largest lower bound on epsilon from the attacks on a set without a guarantee; at 0.5, 62 % of guesses are "
            "right"
        ),
    ] = 0.5
    max_epsilon_open: Annotated[
        float,
        Formerly("epsilon_open"),
        Range(0.0, 100.0),
        Help("guarantees up to this epsilon need no agreement with the recipient"),
    ] = 2.0
    epsilon_agreement: Annotated[float, Range(0.0, 100.0), Help("above this epsilon no guarantee is printed")] = 8.0
    max_delta: Annotated[
        float,
        Range(1e-15, 0.1),
        Help("above this delta no guarantee is printed; a tenth of one over the patients, or less, is usual"),
    ] = 1e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        for limit in ("max_member_tpr", "max_canary_tpr"):
            if getattr(self, limit) <= self.fpr:
                raise ConfigError(
                    f"PolicyConfig.{limit}={getattr(self, limit)!r}: must be > fpr={self.fpr:g}, the rate of an attack "
                    "that only guesses; no number of patients could show less"
                )
        if self.max_epsilon_open > self.epsilon_agreement:
            raise ConfigError(
                f"PolicyConfig.max_epsilon_open={self.max_epsilon_open!r}: must be <= {self.epsilon_agreement:g}"
            )


@dataclass(frozen=True)
class PrivacyConfig(Validated):
    """What is measured before a bundle may leave, and by which rules it is judged."""

    policy: Annotated[str, Help("`default`, `phantom`, or a YAML file with the rules of the site")] = "default"
    audit: Annotated[
        Literal["none", "quick", "full"], Help("audit that a whole run makes; without one its bundle is not released")
    ] = "none"
    release_check: Annotated[
        bool, Help("end a run after ingest where the gate would refuse its release whatever the audit finds")
    ] = True
    recipient: Annotated[str, Help("who receives the set and under which terms; part of the record")] = ""
    ledger: Annotated[
        str,
        Help(
            "absolute path of the JSON file that adds up the releases of a cohort; empty: privacy-ledger.json beside "
            "the run folder"
        ),
    ] = ""


@dataclass(frozen=True)
class DPConfig(Validated):
    """Differentially private experts; the unit is the patient. All numbers here are public."""

    enabled: Annotated[bool, Help("train the experts by DP-SGD; nothing is then chosen on private patients")] = False
    epsilon: Annotated[float, Range(0.01, 100.0), Help("epsilon of all experts and steps together")] = 8.0
    delta: Annotated[float, Range(1e-12, 0.1), Help("delta; well below one over the number of patients")] = 1e-5
    clip: Annotated[float, Range(1e-6, 1e6), Help("largest norm of a patient's mean gradient")] = 1.0
    sampling_rate: Annotated[
        float, Range(1e-6, 1.0), Help("probability of each patient to be in a step, fixed beforehand")
    ] = 0.1
    expected_patients: Annotated[int, Range(1, 10_000_000), Help("public divisor of the summed gradients")] = 100
    steps_per_epoch: Annotated[int, Range(1, 1_000_000), Help("steps between two snapshots")] = 10
    views: Annotated[int, Range(1, 64), Help("augmented views of each image that are averaged")] = 1
    noise_multiplier: Annotated[
        float, Range(0.0, 1e6), Help("sigma; 0: computed from epsilon, which is not used otherwise")
    ] = 0.0
