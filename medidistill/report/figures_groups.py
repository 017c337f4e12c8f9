"""Pictures of subgroups and of the source probe."""

from __future__ import annotations

from medidistill.report.arm_labels import drawn_label, model_label
from medidistill.report.drawing import Picture, Style, new_figure, style_of
from medidistill.report.figures_points import dot, rows
from medidistill.report.panels import arms_of, wrapped
from medidistill.results.clinical import ClinicalComparison, LabelFromSite, SiteProbe
from medidistill.statistics import Interval, Suppressed, Undefined

__all__ = ["source_probe", "subgroups"]

_PROBE = Style("#0072B2", "o", "-")


def subgroups(clinical: ClinicalComparison, column: str) -> Picture | None:
    """Draw the AUROC of each arm by group, one panel a class; None where every figure is hidden."""
    groups, names = clinical.subgroups[column], clinical.class_names
    first = [arm.arm for arm in arms_of(clinical)]
    # with several architectures a model is called by both of its names; the first architecture is drawn
    models = [name for name in (groups[0].auroc if groups else {}) if name.split(", ")[0] in first][: len(first)]
    shown = [group for group in groups if any(isinstance(group.auroc[m][n], Interval) for m in models for n in names)]
    if not shown:
        return None
    figure, axes = new_figure(1, len(names), 1.4 + (0.16 * len(models) + 0.14) * len(shown))
    for k, (one, name) in enumerate(zip(axes, names, strict=True)):
        one.axvline(0.5, color="#777777", lw=1, ls="--")
        for place, group in enumerate(shown):
            for line, model in enumerate(models):
                style = style_of(model.split(", ")[0], first)
                where = place + (line - (len(models) - 1) / 2) * 0.8 / max(1, len(models))
                value = group.auroc[model][name]
                if isinstance(value, Interval):
                    dot(one, where, value, style)
            if all(isinstance(group.auroc[model][name], Suppressed) for model in models):
                one.text(0.5, place, "hidden: too few", transform=one.get_yaxis_transform(), ha="center", fontsize=8)
        one.set_title(wrapped(name), fontsize=10)
        one.set_xlim(right=1.02)
        one.set_xlabel("AUROC against the rest")
        rows(one, [group.group for group in shown], shown=k == 0)
    styles = {model: style_of(model.split(", ")[0], first) for model in models}
    handles = [
        axes[0].plot([], [], s.marker, color=s.color, label=drawn_label(model_label(clinical, model)))[0]
        for model, s in styles.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(4, len(models)), fontsize=8)
    return Picture.of(
        figure,
        f"subgroups-{column}",
        f"By {column}",
        f"AUROC by {column}: {', '.join(group.group for group in shown)}.",
        f"For each {column} and class, with DeLong intervals by patient. Look at the limits, not at the order: of "
        "twenty intervals one misses by chance. Groups and classes with few patients are hidden, and so is what would "
        "give them away.",
    )


def source_probe(clinical: ClinicalComparison) -> Picture | None:
    """Draw how well a simple model tells the source, and how far the source alone tells the label."""
    probe = clinical.source_probe
    if probe is None:
        return None
    lines: list[tuple[str, SiteProbe | LabelFromSite | Undefined]] = [("site, from tiny images", probe.site)]
    lines += [(f"site, among {name}", one) for name, one in probe.within_class.items()]
    lines += [("label, from the site alone", probe.label_from_site)]
    figure, (axes,) = new_figure(1, 1, 0.8 + 0.36 * len(lines))
    for place, (_, one) in enumerate(lines):
        dot(axes, place, one if isinstance(one, Undefined) else one.balanced_accuracy, _PROBE)
        if not isinstance(one, Undefined):
            axes.plot([one.chance] * 2, [place - 0.3, place + 0.3], color="#555555", lw=1.2, ls=(0, (3, 2)))
    rows(axes, [wrapped(title, 34) for title, _ in lines], shown=True)
    axes.set_xlim(0, 1.02)
    axes.set_xlabel("balanced accuracy; short dashed lines: chance")
    return Picture.of(
        figure,
        "source-probe",
        "Can the source be told?",
        "; ".join(f"{title}: {_words(one)}" for title, one in lines),
        "Upper rows: a linear model guesses the hospital or collection from images of 16 x 16 pixels. Last row: how "
        "far the label is known by knowing the source, without looking at the image. If both lie far above chance, a "
        "good AUROC above may be the hospital and not the disease. A low figure does not clear the data: larger "
        "networks see more.",
    )


def _words(one: SiteProbe | LabelFromSite | Undefined) -> str:
    if isinstance(one, Undefined) or one.balanced_accuracy.estimate is None:
        return "undefined"
    return f"{one.balanced_accuracy.estimate:.2f}, chance {one.chance:.2f}"
