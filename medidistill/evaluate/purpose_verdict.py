"""The verdict for one purpose: does the set find enough, and no fewer than all real images by more than a margin?"""

from __future__ import annotations

from dataclasses import dataclass

from medidistill.errors import ConfigError
from medidistill.evaluate.clinical.purpose import PurposeFigures
from medidistill.evaluate.intervals import Interval
from medidistill.results.verdict import Colour

__all__ = ["Purpose", "purpose_verdict"]


@dataclass(frozen=True)
class Purpose:
    """What is asked of a set.

    Args:
        finding: the class to find.
        least_sensitivity: in (0, 1).
        margin: in (0, 1): how much less sensitivity than with all real images is accepted.
        prevalence: in (0, 1), of the place where the model is to be used.
        min_patients: fewest test patients with and without the finding for a green verdict.
    """

    finding: str
    least_sensitivity: float = 0.9
    margin: float = 0.1
    prevalence: float = 0.1
    min_patients: int = 30

    def __post_init__(self) -> None:
        for name in ("least_sensitivity", "margin", "prevalence"):
            if not 0 < getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)}: must be in (0, 1)")


def purpose_verdict(
    purpose: Purpose, figures: PurposeFigures, difference: Interval | None, reservations: tuple[str, ...] = ()
) -> tuple[Colour, str]:
    """Return colour and sentence.

    Red: the interval of the sensitivity lies below the least, or that of the difference below minus the margin. Green:
    both lie above, with enough patients and no reservation. Amber: all else.

    Args:
        purpose: what is asked.
        figures: of the set at the chosen threshold.
        difference: of its sensitivity from that with all real images; None where it is not defined or not compared.
        reservations: what else forbids a yes, one clause each.
    """
    found, least, margin = figures.sensitivity, purpose.least_sensitivity, purpose.margin
    patients = f"{figures.patients_with} test patients of class {purpose.finding} and {figures.patients_without} others"
    reached = f"sensitivity {found.estimate:.2f} [{found.low:.2f}, {found.high:.2f}], asked for {least:g}"
    gap = "" if difference is None else f"{difference.estimate:+.2f} [{difference.low:+.2f}, {difference.high:+.2f}]"
    failed = [f"too few cases are found ({reached})"] if found.high < least else []
    if difference is not None and difference.high < -margin:
        failed.append(f"fewer are found than after training on all real X-rays by more than {margin:g} ({gap})")
    if failed:
        return Colour.RED, f"No: on {patients}, {' and '.join(failed)}."
    open_points = [] if found.low >= least else [f"whether enough cases are found ({reached})"]
    if difference is None:
        open_points.append("how it compares with training on all real X-rays, which has no interval here")
    elif difference.low <= -margin:
        open_points.append(f"whether it finds as many as training on all real X-rays, within {margin:g} ({gap})")
    clauses = [f"it stays open {' and '.join(open_points)}"] if open_points else []
    if min(figures.patients_with, figures.patients_without) < purpose.min_patients:
        clauses.append(f"fewer than {purpose.min_patients} patients on one side are too few for a yes")
    if clauses or reservations:
        return Colour.AMBER, f"Not shown: on {patients}, {'; '.join([*clauses, *reservations])}."
    return Colour.GREEN, (
        f"Yes: on {patients}, enough cases are found ({reached}), and at most {margin:g} fewer than after training on "
        f"all real X-rays ({gap})."
    )
