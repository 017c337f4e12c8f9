"""The data-access log, the claim it allows, the attacks, and the gate before a release."""

from __future__ import annotations

from medidistill.extras import require_extra

require_extra("privacy")

from medidistill.privacy.attacks import ATTACKS  # noqa: E402
from medidistill.privacy.audit import PROFILES, audit, profile_named, set_digest  # noqa: E402
from medidistill.privacy.describe import audit_text  # noqa: E402
from medidistill.privacy.events import Claim, Event, ProvenanceLog, cohort  # noqa: E402
from medidistill.results.audit import AuditProfile  # noqa: E402

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
