"""What touched patients, what it may claim, what attacks find, and the gate before a release."""

from __future__ import annotations

from medidistill.privacy.events import Claim, Event, Manifest, cohort

__all__ = ["Claim", "Event", "Manifest", "cohort"]
