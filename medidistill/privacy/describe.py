"""Results of attacks in words: a sentence each, and the lines that the command prints."""

from __future__ import annotations

from medidistill.privacy.attacks import ATTACKS
from medidistill.results.audit import (
    AttackResult,
    AttributeInference,
    AuditDocument,
    Linkage,
    OneRunBound,
    RatePoint,
    Reidentification,
    Unmeasured,
    UnresolvedPoint,
)

__all__ = ["audit_text", "finding"]


def finding(result: AttackResult) -> str:
    """Return the result of one attack as a sentence."""
    match result:
        case Unmeasured():
            return f"not measured: {result.reason}"
        case Linkage():
            return (
                f"{result.pixels.nearest_is_member} of {result.images} images have a member as nearest real image "
                f"(chance {result.chance:.2f}; p = {result.pixels.p_value:.3g} by pixels, "
                f"{result.high_pass.p_value:.3g} by fine structure); "
                f"{max(view.nearer_than_limit for view in result.views)} nearer than 99 % of non-members"
            )
        case Reidentification():
            auc = f"{result.auc_on_real_pairs:.3f} [{result.auc_low:.3f}, {result.auc_high:.3f}]"
            if not result.works:
                return f"not resolvable: the attack itself does not work (AUC {auc} on real pairs)"
            return (
                f"{result.matched_to_member} of {result.images} images match a member best "
                f"(chance {result.chance:.2f}, p = {result.p_value:.3g}; AUC {auc} on real pairs)"
            )
        case AttributeInference():
            return f"gain {result.gain:+.3f} [{result.low:+.3f}, {result.high:+.3f}] over non-members' data"
        case OneRunBound():
            return (
                f"epsilon >= {result.epsilon_lower:.2f} ({result.right} of {result.guesses} guesses right; "
                f"this many could show at most {result.ceiling:.1f})"
            )
        case _:
            return f"AUC {result.auc:.3f}; {'; '.join(map(_point, result.operating_points))}"


def _point(point: RatePoint | UnresolvedPoint) -> str:
    where = f"{100 * point.fpr:g} % false positives"
    if isinstance(point, UnresolvedPoint):
        return f"at {where}: not resolvable, needs {point.needs_nonmembers} non-members, has {point.nonmembers}"
    limits = f"[{100 * point.low:.1f}, {100 * point.high:.1f}]"
    return f"at {where}: {100 * point.tpr:.1f} % found {limits} of {point.members}"


def audit_text(document: AuditDocument) -> str:
    """Return the findings as lines for a terminal."""
    profile = document.profile
    lines = [
        f"audit {profile.name} of set {document.set}: {document.members.patients} member patients, "
        f"{document.others.patients} non-members, {profile.shadows} shadow runs, {document.seconds / 60:.1f} min"
    ]
    lines += [f"- {ATTACKS[name].title}: {finding(result)}" for name, result in document.audits.items()]
    return "\n".join(lines)
