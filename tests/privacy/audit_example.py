"""A made-up audit whose attacks find little; no value was measured."""

from __future__ import annotations

from typing import Any

from medidistill.results.audit import AuditDocument

RATES = {"confidence": 0.95, "fpr_reached": 0.01, "epsilon_lower": 0.0}
POINT = {
    "fpr": 0.01,
    "resolvable": True,
    "members": 1000,
    "nonmembers": 1000,
    "tpr": 0.01,
    "low": 0.005,
    "high": 0.018,
    **RATES,
}
UNRESOLVED = {"fpr": 0.001, "resolvable": False, "members": 1000, "nonmembers": 1000, "confidence": 0.95}
UNRESOLVED |= {"needs_nonmembers": 2000}
RATE = {"auc": 0.5, "operating_points": [POINT, UNRESOLVED]}
DISTANCES = {"nearest_is_member": 7, "share": 0.5, "low": 0.2, "high": 0.8, "smallest_distance": 0.1}
DISTANCES |= {"median_distance": 0.2, "copy_limit": 0.05}
VIEW = DISTANCES | {"p_value": 0.4, "nearer_than_limit": 0}
LINKAGE = {"images": 15, "chance": 0.5, "members": 700, "others": 700, "needs_images": 7}
ONE_RUN = {"canaries": 1024, "delta": 0.0, "epsilon_lower": 0.4, "ceiling": 5.0, "guesses": 512, "right": 330}
ABSENT = {"measured": False, "reason": "not asked for"}


def findings() -> dict[str, Any]:
    """The stored form of what every attack found, that a test may change."""
    return {
        "linkage": {**LINKAGE, "pixels": dict(VIEW), "high_pass": dict(VIEW)},
        "reidentification": ABSENT,
        "attribute": ABSENT,
        "membership_release": dict(RATE),
        "lira": dict(RATE),
        "rmia": dict(RATE),
        "canaries": {**RATE, "weight": 1, "mean_shift": 0.0},
        "one_run": dict(ONE_RUN),
    }


def audit_of(audits: dict[str, Any]) -> AuditDocument:
    """A document of these findings about the set `abc`."""
    profile = {"name": "quick", "shadows": 16, "canaries": 1024, "students": 2, "experts": 3, "recogniser_steps": 300}
    return AuditDocument.from_dict(
        {
            "set": "abc",
            "init": "noise",
            "images": 15,
            "profile": profile,
            "procedure": "p",
            "seed": 0,
            "members": {"images": 700, "patients": 600},
            "others": {"images": 700, "patients": 600},
            "finished": "2000-01-01",
            "seconds": 1.0,
            "audits": audits,
        }
    )
