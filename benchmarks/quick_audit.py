"""How long the audit `quick` takes and what it finds on X-rays of people, from audited runs.

    medidistill run --config covid-cxr --set ingest.image_size=32 --input $MEDIDISTILL_DATA/covid-cxr --output OUT \\
        --until distill
    medidistill audit OUT --profile quick
    python -m benchmarks.quick_audit OUT

Writes benchmarks/results/quick_audit.json. Only the audit is long; this reads what it left.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.finished_runs import collect
from medidistill.config import PolicyConfig
from medidistill.files import read_json
from medidistill.pipeline import RunFolder, load_config
from medidistill.pipeline.comparison.arms import delivery

RESULT = Path(__file__).parent / "results" / "quick_audit.json"
_ATTACKS = ("membership_release", "lira", "rmia", "canaries")


def read(run: Path) -> dict[str, Any]:
    """Return the figures of one audited run folder."""
    audit, record = read_json(run / "audit" / "audit.json"), read_json(run / "record.json")
    folder = RunFolder(run)
    return {
        "method": delivery(load_config(folder.config_file), folder).method,
        "config": record["config"]["name"],
        "image_size": record["config"]["ingest"]["image_size"],
        "private": record["config"]["experts"]["dp"]["enabled"],
        "images": audit["images"],
        **{name: audit[name] for name in ("profile", "seconds", "members", "others")},
        "attacks": {name: {"auc": audit["audits"][name]["auc"], **_point(audit["audits"][name])} for name in _ATTACKS},
        "one_run": audit["audits"]["one_run"],
        "linkage": {name: audit["audits"]["linkage"][name]["p_value"] for name in ("pixels", "high_pass")},
    }


def _point(attack: Mapping[str, Any]) -> dict[str, float]:
    point = next(one for one in attack["operating_points"] if one["fpr"] == 0.01)
    return {name: point[name] for name in ("tpr", "low", "high")}


def refused_by(run: Mapping[str, Any], policy: PolicyConfig | None = None) -> list[str]:
    """Return the rules of the gate that the kept figures break, of a set without a guarantee; copies are not kept."""
    limits = policy or PolicyConfig()
    attacks = run["attacks"]
    broken = {
        "linkage": min(run["linkage"].values()) < limits.linkage_p,
        "membership": attacks["membership_release"]["high"] > limits.max_member_tpr,
        "LiRA": attacks["lira"]["high"] > limits.max_member_tpr,
        "RMIA": attacks["rmia"]["high"] > limits.max_member_tpr,
        "canaries": attacks["canaries"]["high"] > limits.max_canary_tpr,
        "epsilon": run["one_run"]["epsilon_lower"] > limits.max_epsilon_lower_bound,
    }
    return [rule for rule, is_broken in broken.items() if is_broken]


def table(result: Mapping[str, Any]) -> str:
    """Return the Markdown of the audits: one column an attack, and what the default gate refuses each set for."""
    lines = [
        "| set | seconds | this set: AUC | LiRA | RMIA | canaries | found at 1 % | epsilon, at least | linkage p | "
        "gate refuses by |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for run in result["runs"]:
        found, canaries = run["attacks"], run["attacks"]["canaries"]
        method, protected = run.get("method", "iadd"), "DP" if run["private"] else "no DP"
        what = f"`{method}`, {run['images']} images, {run['image_size']} pixels, {protected}"
        areas = " | ".join(f"{found[name]['auc']:.3f}" for name in _ATTACKS)
        lines.append(
            f"| {what} | {run['seconds']:.0f} | {areas} | "
            f"{canaries['tpr']:.3f} [{canaries['low']:.3f}, {canaries['high']:.3f}] | "
            f"{run['one_run']['epsilon_lower']:.2f} | {min(run['linkage'].values()):.2g} | "
            f"{', '.join(refused_by(run))} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    collect(__doc__, "medidistill audit OUT --profile quick", RESULT, read, table)
