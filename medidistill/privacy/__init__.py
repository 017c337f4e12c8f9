"""What touched patients, what it may claim, what attacks find, and the gate before a release."""

from __future__ import annotations

from medidistill.privacy.audit import PROFILES, AuditProfile, audit, profile_named, set_digest
from medidistill.privacy.events import Claim, Event, Manifest, cohort
from medidistill.privacy.wording import ABOUT, audit_text

__all__ = [
    "ABOUT",
    "PROFILES",
    "AuditProfile",
    "Claim",
    "Event",
    "Manifest",
    "audit",
    "audit_text",
    "cohort",
    "profile_named",
    "set_digest",
]
