"""What a reader must be told where the source of an image gives its class away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from medidistill.results.clinical import LabelFromSite, SourceProbe
from medidistill.statistics import Interval, Undefined

__all__ = ["NO_SITES", "confounding_warnings", "unshared_classes"]

NO_SITES = (
    "No image names its site: whether a network recognises the hospital instead of the disease could not be examined."
)


def unshared_classes(sites: Mapping[str, Mapping[str, int]], class_names: Sequence[str]) -> list[str]:
    """Return the classes that share no site with another class.

    Args:
        sites: site -> class -> number of images; unknown sites left out.
        class_names: all classes.
    """
    if len(sites) < 2:
        return []
    held = {name: {site for site, counts in sites.items() if counts.get(name, 0) > 0} for name in class_names}
    return [
        name
        for name, own in held.items()
        if own and not own & set().union(*(other for one, other in held.items() if one != name))
    ]


def confounding_warnings(
    probe: SourceProbe | None, networks: Mapping[str, float], unshared: Sequence[str]
) -> list[str]:
    """Return one sentence for each way in which the source may pass for the disease; no site is named.

    Args:
        probe: of the sources; None where no image names its site.
        networks: what networks were trained on, in words -> their balanced accuracy on the same test images.
        unshared: classes that share no site with another.
    """
    if probe is None:
        return [NO_SITES]
    told = [
        f"Class {name} shares no site with another class: a network may recognise the site instead of the disease, "
        "and no figure here can tell the two apart."
        for name in unshared
    ]
    rule = probe.label_from_site
    # files of earlier versions looked at some of the sites alone, and do not say how many there are
    if isinstance(rule, LabelFromSite) and rule.sites is not None and _lower(rule.balanced_accuracy) > rule.chance:
        told.insert(0, _by_site(rule, networks))
    return told


def _lower(accuracy: Interval | Undefined) -> float:
    """Return the lower limit, or the estimate where there are no limits."""
    return accuracy.low if isinstance(accuracy, Interval) else accuracy.estimate or 0.0


def _by_site(rule: LabelFromSite, networks: Mapping[str, float]) -> str:
    found = rule.balanced_accuracy
    of_one = f", {rule.one_class_sites} of them with one class alone" if rule.one_class_sites else ""
    limits = f" [{found.low:.2f}, {found.high:.2f}]" if isinstance(found, Interval) else ""
    reached = " and ".join(f"{value:.2f} on {name}" for name, value in networks.items())
    beside = f"; networks that look at the image reach {reached}" if reached else ""
    return (
        f"The site alone tells the class: a rule that knows nothing but the site of an X-ray ({rule.sites} "
        f"sites{of_one}) reaches a balanced accuracy of {found.estimate:.2f}{limits} on {rule.patients} test "
        f"patients, where chance is {rule.chance:.2f}{beside}. Part of what networks reach may be the site and not "
        "the disease."
    )
