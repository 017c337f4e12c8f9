"""What the ready-made run `private` delivers on X-rays of people, from finished runs.

    medidistill run --config private --input $MEDIDISTILL_DATA/covid-cxr --output work/private
    medidistill run --config private --set 'evaluate.arms=[full, random, iadd]' --input ... --output work/private-iadd
    python -m benchmarks.private_run work/private work/private-iadd

Writes benchmarks/results/private_run.json: scores on the test split, what the audit found, what the gate said. Only the
runs are long; this reads them. A run each: noise and sampling of a private run cannot be repeated.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.finished_runs import collect
from medidistill.files import read_json

RESULT = Path(__file__).parent / "results" / "private_run.json"
_PROTECTION = {"dp_full": "the same epsilon, a model and no images"}


def read(run: Path) -> dict[str, Any]:
    """Return the figures of one finished run folder."""
    audit, privacy = read_json(run / "audit" / "audit.json"), read_json(run / "bundle" / "recipe.json")["privacy"]
    rows = read_json(run / "evaluate" / "comparison.json")["rows"]
    return {
        "arms": [{name: row[name] for name in ("arm", "balanced_accuracy", "macro_auroc")} for row in rows],
        "audit": {
            "profile": audit["profile"],
            "seconds": audit["seconds"],
            "canaries_auc": audit["audits"]["canaries"]["auc"],
            "one_run": audit["audits"]["one_run"],
        },
        "gate": {name: privacy[name] for name in ("verdict", "terms", "guarantee")},
    }


def table(result: Mapping[str, Any]) -> str:
    """Return the Markdown of the runs: what each delivers, after what it is compared with."""
    lines = [
        "| trained on | balanced accuracy | macro AUROC | canaries: AUC | epsilon, at least | audit `quick` | gate |",
        "|---|---|---|---|---|---|---|",
    ]
    rivals = result["runs"][0]["arms"][:-1]
    lines += [
        f"| {arm['arm']}, {_PROTECTION.get(arm['arm'], 'no protection')} | {_figures(arm)} | | | | |" for arm in rivals
    ]
    for run in result["runs"]:
        audit, gate = run["audit"], run["gate"]
        lines.append(
            f"| {run['arms'][-1]['arm']} | {_figures(run['arms'][-1])} | {audit['canaries_auc']:.3f} | "
            f"{audit['one_run']['epsilon_lower']:.2f} | {audit['seconds']:.0f} s | {gate['verdict']}, {gate['terms']} |"
        )
    return "\n".join(lines)


def _figures(arm: Mapping[str, Any]) -> str:
    found = (arm["balanced_accuracy"], arm["macro_auroc"])
    return " | ".join(f"{one['estimate']:.3f} [{one['low']:.3f}, {one['high']:.3f}]" for one in found)


if __name__ == "__main__":
    collect(__doc__, "medidistill run --config private", RESULT, read, table)
