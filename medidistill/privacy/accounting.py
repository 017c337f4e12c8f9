"""From mechanisms to (epsilon, delta): two accountants that must agree, and noise calibrated to a target.

Every data access with a mechanism is a run of the subsampled Gaussian mechanism; all of them compose. Opacus' PRV
accountant and dp-accounting's privacy-loss-distribution accountant compute the same bound by different code; where they
differ by more than 5 % the work stops, and the larger of the two is what counts. Needs the extra `dp`.

Sources: Gopi, Lee, Wutschitz 2021 (arXiv 2106.02848); Doroshenko et al. 2022 (arXiv 2207.04380).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from medidistill.errors import ConfigError
from medidistill.extras import require_extra
from medidistill.privacy.events import Event

__all__ = ["SubsampledGaussian", "calibrate_noise", "calibrate_noise_jointly", "epsilon_spent", "mechanisms_of"]

_MAX_RELATIVE_DIFFERENCE = 0.05
_BEYOND = 1000.0  # Renyi divergence of order 2, from which on the accountants need gigabytes and nothing is guaranteed


@dataclass(frozen=True)
class SubsampledGaussian:
    """`steps` releases of a sum with noise `noise_multiplier` x its sensitivity, each of a Poisson sample."""

    noise_multiplier: float
    sampling_rate: float
    steps: int


def mechanisms_of(events: Iterable[Event]) -> list[SubsampledGaussian]:
    """Return the mechanisms of the events, to be composed.

    Raises:
        ConfigError: an event without a mechanism: it has no finite cost.
    """
    found = []
    for event in events:
        parameters = event.parameters
        if event.mechanism == "dp_sgd":
            steps = int(parameters["steps"])
            found.append(SubsampledGaussian(parameters["noise_multiplier"], parameters["sampling_rate"], steps))
        elif event.mechanism == "gaussian":
            found.append(SubsampledGaussian(parameters["noise_multiplier"], 1.0, 1))
        else:
            raise ConfigError(f"event {event.kind} has no privacy mechanism: no epsilon exists")
    return found


def _prv(mechanisms: Sequence[SubsampledGaussian], delta: float) -> float:
    from opacus.accountants import PRVAccountant

    accountant = PRVAccountant()
    accountant.history = [(m.noise_multiplier, m.sampling_rate, m.steps) for m in mechanisms]
    return float(accountant.get_epsilon(delta))


def _pld(mechanisms: Sequence[SubsampledGaussian], delta: float) -> float:
    from dp_accounting import dp_event
    from dp_accounting.pld import PLDAccountant

    accountant = PLDAccountant(value_discretization_interval=1e-3)
    for m in mechanisms:
        event: dp_event.DpEvent = dp_event.GaussianDpEvent(m.noise_multiplier)
        if m.sampling_rate < 1:
            event = dp_event.PoissonSampledDpEvent(m.sampling_rate, event)
        accountant.compose(dp_event.SelfComposedDpEvent(event, m.steps))
    return float(accountant.get_epsilon(delta))


def _order_two(m: SubsampledGaussian) -> float:
    """Return the Renyi divergence of order 2 (Mironov, Talwar, Zhang 2019, arXiv 1908.10530)."""
    inverse, squared = m.noise_multiplier**-2, m.sampling_rate**2
    return m.steps * (inverse + math.log(squared + (1 - squared) * math.exp(-inverse)))


def epsilon_spent(mechanisms: Sequence[SubsampledGaussian], delta: float) -> float:
    """Return epsilon at `delta` for all mechanisms together; infinite where it is in the hundreds.

    Raises:
        ConfigError: nothing to account for, the accountants disagree by more than 5 %, or are not installed.
    """
    if not mechanisms or not 0 < delta < 1:
        raise ConfigError(
            f"accounting needs at least one mechanism and 0 < delta < 1, got {len(mechanisms)}, delta={delta}"
        )
    require_extra("dp")
    if sum(map(_order_two, mechanisms)) > _BEYOND:
        return math.inf
    found = (_prv(mechanisms, delta), _pld(mechanisms, delta))
    if not all(map(math.isfinite, found)) or max(found) > min(found) * (1 + _MAX_RELATIVE_DIFFERENCE) + 0.01:
        raise ConfigError(
            f"the accountants disagree: epsilon={found[0]:.3f} by PRV, {found[1]:.3f} by PLD; no guarantee is claimed"
        )
    return max(found)


def calibrate_noise(epsilon: float, delta: float, *, sampling_rate: float, steps: int) -> float:
    """Return the smallest noise multiplier, to 0.5 %, for which `steps` steps stay within (epsilon, delta).

    Both accountants must confirm it.

    Raises:
        ConfigError: no noise multiplier up to 10,000 meets it, or the accountants disagree or are not installed.
    """

    def spent(sigma: float) -> float:
        return _pld([SubsampledGaussian(sigma, sampling_rate, steps)], delta)

    require_extra("dp")
    low, high = 0.1, 1.0
    while spent(high) > epsilon:
        low, high = high, 2 * high
        if high > 1e4:
            raise ConfigError(
                f"epsilon={epsilon:g}: no noise multiplier up to 10,000 meets it in {steps} steps; use fewer steps"
            )
    while high / low > 1.005:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if spent(middle) > epsilon else (low, middle)
    while epsilon_spent([SubsampledGaussian(high, sampling_rate, steps)], delta) > epsilon:
        high *= 1.005
    return high


def calibrate_noise_jointly(
    epsilon: float, delta: float, *, sampling_rate: float, steps: int, share: float
) -> tuple[float, float]:
    """Return the noise multipliers of `steps` steps and of one further release that meet (epsilon, delta) together.

    Args:
        epsilon: of steps and release together.
        delta: likewise.
        sampling_rate: of the steps; the release reads every patient.
        steps: how many.
        share: of the budget in 1 / sigma^2, in (0, 1), that goes to the release.

    Raises:
        ConfigError: as `calibrate_noise`.
    """
    release = calibrate_noise(epsilon, delta, sampling_rate=1.0, steps=1) / share**0.5
    sigma = calibrate_noise(epsilon, delta, sampling_rate=sampling_rate, steps=steps)
    while (
        epsilon_spent([SubsampledGaussian(sigma, sampling_rate, steps), SubsampledGaussian(release, 1.0, 1)], delta)
        > epsilon
    ):
        sigma *= 1.01
    return sigma, release
