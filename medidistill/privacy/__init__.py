"""The data-access log, the claim it allows, the attacks, and the gate before a release."""

from __future__ import annotations

from medidistill.privacy.audit import PROFILES, audit, profile_named, set_digest
from medidistill.privacy.describe import ATTACKS, audit_text
from medidistill.privacy.events import Claim, Event, ProvenanceLog, cohort
from medidistill.results.audit import AuditProfile

__all__ = [
    "ATTACKS",
    "PROFILES",
    "AuditProfile",
    "Claim",
    "Event",
    "ProvenanceLog",
    "audit",
    "audit_text",
    "cohort",
    "profile_named",
    "set_digest",
]
