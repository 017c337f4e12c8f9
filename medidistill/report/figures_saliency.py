"""What networks look at, side by side on the same test images. These pictures show patients."""

from __future__ import annotations

from medidistill.report.arm_labels import drawn_label
from medidistill.report.data import Explanations
from medidistill.report.drawing import Picture, new_figure
from medidistill.report.panels import wrapped
from medidistill.words import arm_words

__all__ = ["saliency"]


def saliency(explanations: Explanations) -> Picture:
    """Draw each case in a row: the image, then the Grad-CAM of every arm over it."""
    cases = explanations.cases
    arms = list(cases[0].maps)
    figure, axes = new_figure(len(cases), 1 + len(arms), 2.35 * len(cases) + 0.3)
    for row, case in enumerate(cases):
        line = axes[row * (1 + len(arms)) : (row + 1) * (1 + len(arms))]
        for one in line:
            one.imshow(case.image, cmap="gray", vmin=0, vmax=1)
            one.set(xticks=[], yticks=[])
            one.grid(visible=False)
        line[0].set_title(f"true: {wrapped(case.truth)}", fontsize=9)
        line[0].set_ylabel(wrapped(case.outcome, 22), fontsize=9)
        for one, arm in zip(line[1:], arms, strict=True):
            one.imshow(case.maps[arm], cmap="viridis", vmin=0, vmax=1, alpha=0.45)
            name, probability = case.called[arm]
            one.set_title(f"{drawn_label(arm_words(arm))}:\n{wrapped(name)} {probability:.2f}", fontsize=9)
    counted = ", ".join(f"{name}: {number}" for name, number in explanations.outcomes.items())
    return Picture.of(
        figure,
        "saliency",
        "Saliency (Grad-CAM)",
        f"{len(cases)} test images with Grad-CAM of networks trained on {', '.join(map(arm_words, arms))}.",
        f"One {explanations.architecture} network an arm, the same initial weights. Yellow is where a change of the "
        f"last feature map would raise the class that the network calls. {explanations.rule} Test images by outcome: "
        f"{counted}. A bright field outside the lungs speaks for a shortcut; one inside proves nothing. Grad-CAM is "
        "coarse (a field of few cells enlarged) and says where, not why.",
        pixels=True,
    )
