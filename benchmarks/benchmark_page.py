"""docs/benchmarks.md from the committed results of `benchmarks.paper_tables`."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medidistill.files import read_json

__all__ = ["ORDER", "page"]

ORDER = ("cifar10", "cifar100", "tinyimagenet", "covid", "cross_arch")
_TITLES = {
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "tinyimagenet": "Tiny ImageNet",
    "covid": "Chest X-rays with COVID-19",
    "cross_arch": "Across architectures: distilled with the ConvNet, trained with others",
}
_SCALES = ("full", "cpu", "smoke")
_HEAD = """\
# Benchmarks: the tables of the papers, on this engine

Written by `python -m benchmarks.make_tables` from `benchmarks/results/paper_*.json`; do not edit. Each table is one
command, named below it, and every finished cell is shown, whatever it says. [methods.md](methods.md) says what the
methods are and where they differ from what was published.

How to read it:

- Figures are balanced accuracies on the test split, mean over seeds of the mean over networks. Every choice (learning
  rate, outer step) is made on validation.
- Intervals are Student's t over seeds, 95 %; the test images are held fixed, so they do not say how other images would
  come out. From fewer than three seeds there is no interval and no p: such an estimate shows no difference.
- Differences are taken seed by seed: with one seed all methods share start, segments, batches and the evaluation
  networks' weights. `adjusted p` is Holm's correction over all methods of one block; with many methods some difference
  looks large by chance.
- All seeds share one pool of experts: no interval covers the variance across expert pools.
- Scale `cpu` is what two busy CPU cores finish: a narrow network, a few short experts, some dozen outer steps, no
  whitening, the last outer step as it is. The networks on all real images stop after four epochs, far below what the
  data give. It shows methods on the same work, stopped early.
- At scale `cpu` all methods share one set of rates, chosen for MTT on covid-cxr's validation split, and few steps: a
  method that wants others is shown at a disadvantage. A row says what a method did here, not what it can do.
- Two starts: `noise`, and `real`, where every image begins as a patient's (or a photograph) and keeps pointing at it.
- No published figure stands in these tables: networks, experts and steps differ from the papers', most of all at the
  scale `cpu`.
"""
_SMOKE = "> **Smoke scale: this shows that every method runs, in seconds a cell. The figures mean nothing.**"
_JPEG = "The images are lossy JPEG copies: the table compares methods and says nothing against published figures."
_CLINICAL = (
    "The data are confounded: COVID-19 comes from sources of its own. The table compares methods on the same work and "
    "is no evidence of diagnostic value."
)


def page(results: Path) -> str:
    """Return the Markdown of the whole page from the results in a folder."""
    found = [read_json(file) for file in sorted(results.glob("paper_*.json"))]
    found.sort(key=lambda result: (ORDER.index(result["table"]), _SCALES.index(result["scale"])))
    parts = [_HEAD, *(_section(result) for result in found)]
    missing = [_TITLES[name] for name in ORDER if name not in {result["table"] for result in found}]
    if missing:
        parts.append(f"## Not run yet\n\n{', '.join(missing)}: no result is committed.\n")
    return "\n".join(parts)


def _section(result: Mapping[str, Any]) -> str:
    lines = [f"## {_TITLES[result['table']]}, scale `{result['scale']}`", ""]
    notes = {
        _SMOKE: result["scale"] == "smoke",
        _JPEG: "jpeg" in result["source"],
        _CLINICAL: result["source"] == "covid-cxr",
    }
    for note in [text for text, holds in notes.items() if holds]:
        lines += [note, ""]
    images = result["images"]
    lines += [
        f"`{result['source']}`: {images['train']} training, {images['val']} validation and {images['test']} test "
        f"images, {result['classes']} classes.",
        "",
        *_rows(result["rows"]),
    ]
    made = ", ".join(f"{one['cells']} cells on {one['device']}, torch {one['torch']}" for one in result["made_on"])
    lines += ["", f"{_settings(result)} Made on: {made}."]
    lines += _verdicts(result["differences"])
    for rival in ("mtt", "random"):
        lines += _gaps([gap for gap in result["differences"] if gap["minus"] == rival], rival)
    lines += _parts(result["parts"])
    lines += _drops(result["drops"])
    lines += ["", f"    {result['command']}", ""]
    for what, names in (("Not run", result["missing"]), ("Diverged, without a row", result["diverged"])):
        if names:
            lines += [f"{what}: {len(names)} cells: {_grouped(names, result['rows'])}.", ""]
    return "\n".join(lines)


def _grouped(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """Return cells by number of images per class; one of which nothing was run is named as a whole."""
    by_size: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name in names:
        stem, _, seed = name.rpartition("-seed")
        found = re.search(r"-ipc(\d+)-", stem)
        by_size[found[1] if found else "0"][stem.replace(found[0], "-") if found else stem].append(seed)
    begun, parts = {str(row["ipc"]) for row in rows}, []
    for size, stems in sorted(by_size.items(), key=lambda item: int(item[0])):
        each = ", ".join(f"{stem} (seed {', '.join(sorted(seeds))})" for stem, seeds in sorted(stems.items()))
        what = each if size in begun else f"the whole block ({sum(map(len, stems.values()))} cells)"
        parts.append(f"at {size if size != '0' else 'all'} images per class {what}")
    return "; ".join(parts)


def _settings(result: Mapping[str, Any]) -> str:
    """Return one line on what was distilled from what; the JSON holds the rest."""
    recipe = next(iter(result["recipes"].values()))
    distill, experts, small = recipe["distill"], recipe["experts"], recipe["evaluate"].get("small_set_training")
    small = small or recipe["evaluate"]["small"]  # results of before the setting was renamed
    return (
        f"ConvNet of width {recipe['network']['width']}, {recipe['ingest']['image_size']} x "
        f"{recipe['ingest']['image_size']} pixels; {experts['count']} experts of {experts['epochs']} epochs; "
        f"{distill['outer_steps']} outer steps, J = {distill['inner_steps']}, K = {distill['expert_epochs']}, start "
        f"epochs below {distill['max_start']}; IADD's W {distill['importance']['direction']}s; networks "
        f"trained for {small['steps']} steps."
    )


def _number(value: Mapping[str, float | None], sign: str = "") -> str:
    text = f"{value['estimate']:{sign}.3f}"
    return text if value["low"] is None else f"{text} [{value['low']:{sign}.3f}, {value['high']:{sign}.3f}]"


def _rows(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [
        "| images per class | method | start | network | balanced accuracy | on validation | seeds x networks |",
        "|---|---|---|---|---|---|---|",
    ]
    return lines + [
        f"| {row['ipc'] or 'all'} | {row['arm']} | {row['start'] or '-'} | {row['architecture']} | "
        f"{_number(row['balanced_accuracy'])} | {row['val_balanced_accuracy']:.3f} | "
        f"{len(row['seeds'])} x {row['networks']} |"
        for row in sorted(rows, key=_place)
    ]


def _place(row: Mapping[str, Any]) -> tuple[int, bool, str]:
    return row["ipc"], row["architecture"] != "convnet", row["architecture"]


def _gaps(gaps: Sequence[Mapping[str, Any]], rival: str) -> list[str]:
    if not any(gap["p"] is not None for gap in gaps):
        return []  # one seed: nothing is known about a difference
    lines = ["", f"| images per class | method | start | network | minus `{rival}`, paired over seeds | adjusted p |"]
    lines.append("|---|---|---|---|---|---|")
    return lines + [
        f"| {gap['ipc']} | {gap['arm']} | {gap['start']} | {gap['architecture']} | {_number(gap, '+')} | "
        f"{'-' if gap['adjusted'] is None else format(gap['adjusted'], '.2f')} |"
        for gap in sorted(gaps, key=_place)
    ]


def _parts(gaps: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return which combinations add up: each minus its parts, where there is an interval."""
    known = [gap for gap in gaps if gap["low"] is not None]
    if not known:
        return []
    lines = ["", "Which combinations add up: a combination is worth its parts where it loses to none of them.", ""]
    lines += ["| images per class | combination | minus its part | paired over seeds | |", "|---|---|---|---|---|"]
    return lines + [
        f"| {gap['ipc']} | {gap['arm']} | {gap['minus']} | {_number(gap, '+')} | {_side(gap)} |"
        for gap in sorted(known, key=_place)
    ]


def _side(gap: Mapping[str, Any]) -> str:
    return "better" if gap["low"] > 0 else "worse" if gap["high"] < 0 else "no difference shown"


def _verdicts(gaps: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return in words what the differences of IADD and MTT say, where there is an interval."""
    lines = []
    for gap in sorted(gaps, key=_place):
        if (gap["arm"], gap["minus"]) == ("iadd", "mtt") and gap["low"] is not None:
            beyond = gap["low"] > 0 or gap["high"] < 0
            says = "the interval leaves out 0" if beyond else "the interval holds 0: no difference is shown"
            lines.append(
                f"- IADD minus MTT from {gap['start']}, {gap['ipc']} per class, {gap['architecture']}: "
                f"{_number(gap, '+')}; {says} (before correction for many comparisons)."
            )
    return ["", *lines] if lines else []


def _drops(drops: Sequence[Mapping[str, Any]]) -> list[str]:
    if not drops:
        return []
    lines = [
        "",
        "| images per class | method | start | fall from the ConvNet to the mean of the others |",
        "|---|---|---|---|",
    ]
    return lines + [f"| {d['ipc'] or 'all'} | {d['arm']} | {d['start'] or '-'} | {_number(d['drop'])} |" for d in drops]
