"""The attacks of an audit, and the one list of them.

A new membership attack from shadow runs is a file with its `AttackInfo` and score, a line here, and a field of
`medidistill.results.audit.AuditFindings`, which says what is stored.
"""

from __future__ import annotations

from collections.abc import Mapping

from medidistill.privacy.attacks import attribute_inference, linkage, membership, one_run, reidentification
from medidistill.privacy.attacks.attack import AttackInfo, ShadowScore

__all__ = ["ATTACKS", "SHADOW_SCORES", "AttackInfo"]

_ALL = (
    linkage.ATTACK,
    reidentification.ATTACK,
    attribute_inference.ATTACK,
    membership.OF_RELEASE,
    membership.LIRA,
    membership.RMIA,
    membership.CANARIES,
    one_run.ATTACK,
)

# in the order of reports
ATTACKS: Mapping[str, AttackInfo] = {attack.name: attack for attack in _ALL}
# membership attacks on the procedure: name -> scores of its shadow runs
SHADOW_SCORES: Mapping[str, ShadowScore] = {one.name: one.score for one in _ALL if one.score is not None}
