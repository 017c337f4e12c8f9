"""Fill the tables of the README and of pages of docs/ from the committed JSON.

python -m benchmarks.make_tables          # rewrite them
python -m benchmarks.make_tables --check  # exit 1 if one is out of date
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import (
    large_collection,
    matching_limits_page,
    patient_groups,
    privacy_table,
    private_run,
    quick_audit,
    shared_model,
    value_architectures,
    value_tables,
    weight_agreement,
    weight_architectures,
    weight_curves,
    weight_final,
    weight_trial,
    weightings,
    whole_run,
)
from benchmarks.benchmark_page import page
from medidistill.files import read_json

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
PAGE = HERE.parent / "docs" / "benchmarks.md"
TRIAL = HERE.parent / "docs" / "weight-trial.md"
ALGORITHM = HERE.parent / "docs" / "algorithm.md"
COVID = HERE.parent / "docs" / "covid-cxr.md"
PERFORMANCE = HERE.parent / "docs" / "performance.md"
PRIVACY = HERE.parent / "docs" / "privacy.md"
VALUE = HERE.parent / "docs" / "value.md"
ADJOINTS = ("adjoint", "adjoint_keeping", "adjoint_bfloat16")
ARMS = {
    "full": "all real images",
    "random": "random real images",
    "kmeans": "k-means-chosen real images",
    "mtt": "MTT",
    "iadd": "IADD",
}


def _interval(value: Mapping[str, float], sign: str = "") -> str:
    return f"{value['estimate']:{sign}.3f} [{value['low']:{sign}.3f}, {value['high']:{sign}.3f}]"


def covid_table(result: Mapping[str, Any]) -> str:
    """Return the Markdown of the covid-cxr comparison: balanced accuracy and macro AUROC by ipc and arm."""
    lines = [
        "| images per class | trained on | balanced accuracy | macro AUROC | sd over networks |",
        "|---|---|---|---|---|",
    ]
    shown_full = False
    differences = []
    for ipc, part in sorted(result["ipc"].items(), key=lambda item: int(item[0])):
        for row in part["comparison"]["rows"]:
            if row["arm"] == "full" and shown_full:
                continue
            shown_full = shown_full or row["arm"] == "full"
            label = "all" if row["arm"] == "full" else ipc
            lines.append(
                f"| {label} | {ARMS[row['arm']]} | {_interval(row['balanced_accuracy'])} | "
                f"{_interval(row['macro_auroc'])} | {row['sd_balanced_accuracy']:.3f} |"
            )
        for difference in part["comparison"]["differences"]:
            if difference["arm"] in ("iadd", "mtt") and difference["metric"] == "balanced_accuracy":
                over, patients = (_interval(difference[name], "+") for name in ("over_units", "bootstrap"))
                names = f"{ARMS[difference['arm']]} minus {ARMS[difference['minus']]}"
                differences.append(f"| {ipc} | {names} | {over} | {patients} |")
    head = ["| images per class | | paired over seeds (t) | over patients and seeds (bootstrap) |", "|---|---|---|---|"]
    return "\n".join([*lines, "", *head, *differences])


_NAMES = {"mtt": "none (MTT)", "mtt-bfloat16": "none (MTT), bfloat16 adjoint"}


def ablation_table(result: Mapping[str, Any]) -> str:
    """Return the Markdown of the ablation of W on validation."""
    lines = [
        "| W | seeds | validation balanced accuracy | minus MTT, paired over seeds (95 % t) |",
        "|---|---|---|---|",
    ]
    for row in result["rows"]:
        name = _NAMES.get(row["variant"], row["variant"].replace("unit_mean_square", "unit mean square"))
        deviation = "" if row["sd_over_seeds"] is None else f" (sd {row['sd_over_seeds']:.3f})"
        minus = f"{row['mean_minus_mtt']:+.3f}" if row["minus_mtt"] is None else _interval(row["minus_mtt"], "+")
        minus = "" if row["variant"] == "mtt" else minus
        score = f"{row['val_balanced_accuracy']:.3f}{deviation}"
        lines.append(f"| {name} | {len(row['seeds'])} | {score} | {minus} |")
    return "\n".join(lines)


def meta_gradient_table(result: Mapping[str, Any]) -> str:
    """Return the Markdown of time and memory of the meta-gradient, beside what was aimed at."""
    lines = [
        "| work | time, float32 | keeping activations | and bfloat16 adjoint | aim | peak memory of the three | aim | "
        "of peak | off, stored and ours |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        time, memory = row["time_ratio"], row["memory_ratio"]
        times = " | ".join(f"{time[kind]:.2f}x" for kind in ADJOINTS)
        sizes = ", ".join(f"{memory[kind]:.3f}x" for kind in ADJOINTS)
        aim = "" if row["target_memory"] is None else f"<= {row['target_memory']:g}x"
        note = "" if row["reference_steps"] == row["steps"] else f" (both at J = {row['reference_steps']})"
        lines.append(
            f"| {row['name']}{note} | {times} | <= {row['target_time']:g}x | "
            f"{sizes} ({_size(row['peak_bytes']['adjoint'])} first) | {aim} | "
            f"{row['of_peak']:.0%} | {_off(row, 'stored')}, {_off(row, 'adjoint')}, {_off(row, 'adjoint_bfloat16')} |"
        )
    lines += [
        f"| {row['name']}, ours alone | | | | | {_size(row['whole']['peak_bytes'])} | | | |"
        for row in result["rows"]
        if "whole" in row
    ]
    machine = f"{result['hardware']['cpu']}, {result['threads']} threads, torch {result['versions']['torch']}."
    return "\n".join([*lines, "", machine])


def controls_table(result: Mapping[str, Any]) -> str:
    """Return the Markdown of the audit's controls: what each fails, and the figures that say so."""
    lines = [
        "| control | fails | this set's members: AUC | found at 1 % | canaries: AUC | found at 1 % | epsilon, at least "
        "| linkage p |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, found in result["controls"].items():
        audits = found["audits"]
        cells = [name, ", ".join(found["failed"]) or "nothing"]
        for attack in ("membership_release", "canaries"):
            point = next(point for point in audits[attack]["operating_points"] if point["fpr"] == 0.01)
            limits = f"{point['tpr']:.3f} [{point['low']:.3f}, {point['high']:.3f}]" if "tpr" in point else "-"
            cells += [f"{audits[attack]['auc']:.3f}", limits]
        least = min(audits["linkage"][view]["p_value"] for view in ("pixels", "high_pass"))
        lines.append("| " + " | ".join([*cells, f"{audits['one_run']['epsilon_lower']:.2f}", f"{least:.2g}"]) + " |")
    machine = (
        f"{result['side']} x {result['side']} pixels; {result['hardware']['cpu']}, torch {result['versions']['torch']}."
    )
    return "\n".join([*lines, "", machine])


def _off(row: Mapping[str, Any], kind: str) -> str:
    return f"{row['time']['off'][kind]['images']['relative']:.0e}"


def _size(count: float) -> str:
    return f"{count / 1e6:,.0f} MB"


def fill(text: str, name: str, table: str) -> str:
    """Replace what stands between the markers of `name`."""
    start, end = f"<!-- table:{name}:start -->", f"<!-- table:{name}:end -->"
    before, _, rest = text.partition(start)
    _, _, after = rest.partition(end)
    if not rest or not after:
        raise SystemExit(f"no markers {start} ... {end}")
    return f"{before}{start}\n{table}\n{end}{after}"


def main() -> None:
    """Rewrite or check the README and the page of the benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if a page is out of date")
    options = parser.parse_args()
    old, covid = (file.read_text(encoding="utf-8") for file in (README, COVID))
    comparison = read_json(HERE / "results" / "covid_cxr.json")
    whole = fill(covid, "covid-cxr", covid_table(comparison))
    whole = fill(whole, "ablation", ablation_table(read_json(HERE / "results" / "covid_cxr_ablation.json")))
    speed = PERFORMANCE.read_text(encoding="utf-8")
    meta_gradient = meta_gradient_table(read_json(HERE / "results" / "meta_gradient.json"))
    privacy = PRIVACY.read_text(encoding="utf-8")
    filled = fill(privacy, "privacy", privacy_table.table(read_json(privacy_table.RESULT)))
    filled = fill(filled, "controls", controls_table(read_json(HERE / "results" / "privacy_controls.json")))
    filled = fill(filled, "private-run", private_run.table(read_json(private_run.RESULT)))
    filled = fill(filled, "quick-audit", quick_audit.table(read_json(quick_audit.RESULT)))
    timed = read_json(whole_run.RESULT)
    worth, text = read_json(value_tables.RESULT), VALUE.read_text(encoding="utf-8")
    new = fill(old, "value-short", value_tables.short_table(worth))
    tables = fill(fill(text, "value", value_tables.table(worth)), "value-bits", value_tables.bits_table(worth))
    tables = fill(tables, "shared-model", shared_model.table(read_json(shared_model.RESULT)))
    tables = fill(tables, "patient-groups", patient_groups.table(read_json(patient_groups.RESULT)))
    tables = fill(tables, "value-aims", value_tables.aims_table(worth, "mixture", 32))
    across = value_architectures.table(read_json(value_architectures.RESULT))
    tables = fill(tables, "value-architectures", across)
    for other in value_tables.OTHERS:
        file = value_tables.result_file(other)
        tables = fill(tables, file.stem.replace("_", "-"), value_tables.table(read_json(file), "images"))
    filled_speed = fill(fill(speed, "meta-gradient", meta_gradient), "whole-run", whole_run.table(timed))
    large = large_collection.table(read_json(large_collection.RESULT))
    filled_speed = fill(filled_speed, "large-collection", large)
    limits, method = read_json(HERE / "results" / "matching_limits.json"), ALGORITHM.read_text(encoding="utf-8")
    filled_method = fill(method, "targets", matching_limits_page.targets_table(limits))
    filled_method = fill(filled_method, "reweighting", matching_limits_page.weights_table(limits))
    trial = TRIAL.read_text(encoding="utf-8")
    filled_trial = fill(trial, "weights", weight_trial.table(read_json(weightings.FAMILIES["parameters"].result)))
    filled_trial = fill(filled_trial, "warm", weight_trial.table(read_json(weightings.FAMILIES["warm"].result)))
    agreement = weight_agreement.table(read_json(weight_agreement.RESULT))
    filled_trial = fill(filled_trial, "agreement", agreement)
    for name, comparison in weight_final.COMPARISONS.items():
        filled_trial = fill(filled_trial, f"final-{name}", weight_final.table(read_json(comparison.result)))
    across = weight_architectures.table(read_json(weight_architectures.RESULT))
    filled_trial = fill(filled_trial, "final-architectures", across)
    filled_trial = fill(filled_trial, "curves", weight_curves.table(read_json(weight_curves.RESULT)))
    pages = {
        TRIAL: (trial, filled_trial),
        ALGORITHM: (method, filled_method),
        VALUE: (text, tables),
        README: (old, new),
        COVID: (covid, whole),
        PERFORMANCE: (speed, filled_speed),
        PRIVACY: (privacy, filled),
        PAGE: (PAGE.read_text(encoding="utf-8") if PAGE.is_file() else "", page(HERE / "results")),
    }
    if options.check:
        stale = [file.name for file, (before, after) in pages.items() if before != after]
        sys.exit(f"{', '.join(stale)}: out of date, run python -m benchmarks.make_tables" if stale else 0)
    for file, (_, after) in pages.items():
        file.write_text(after, encoding="utf-8")


if __name__ == "__main__":
    main()
