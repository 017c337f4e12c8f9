"""From mechanisms to (epsilon, delta): two accountants that must agree, and the noise that keeps to a target.

Every touch with a mechanism is a run of the subsampled Gaussian mechanism; all of them compose. Opacus' PRV accountant
and dp-accounting's privacy-loss-distribution accountant compute the same bound by different code; where they differ by
more than 5 % the work stops, and the larger of the two is what counts. Needs the extra `dp`.

Sources: Gopi, Lee, Wutschitz 2021 (arXiv 2106.02848); Doroshenko et al. 2022 (arXiv 2207.04380).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from medidistill.errors import ConfigError
from medidistill.privacy.events import Event

__all__ = ["Sampled", "epsilon_spent", "mechanisms_of", "noise_beside", "noise_for"]

_AGREE = 0.05
_INSTALL = "the accountants are not installed; pip install 'medidistill[dp]'"


@dataclass(frozen=True)
class Sampled:
    """`steps` releases of a sum with noise `noise_multiplier` x its sensitivity, each of a Poisson sample."""

    noise_multiplier: float
    sampling_rate: float
    steps: int


def mechanisms_of(events: Iterable[Event]) -> list[Sampled]:
    """Return what the events with a mechanism did.

    Raises:
        ConfigError: an event without a mechanism: it has no finite cost.
    """
    found = []
    for event in events:
        parameters = event.parameters
        if event.mechanism == "dp_sgd":
            steps = int(parameters["steps"])
            found.append(Sampled(parameters["noise_multiplier"], parameters["sampling_rate"], steps))
        elif event.mechanism == "gaussian":
            found.append(Sampled(parameters["noise_multiplier"], 1.0, 1))
        else:
            raise ConfigError(f"event {event.kind} has no privacy mechanism: no epsilon exists")
    return found


def _prv(mechanisms: Sequence[Sampled], delta: float) -> float:
    from opacus.accountants import PRVAccountant

    accountant = PRVAccountant()
    accountant.history = [(m.noise_multiplier, m.sampling_rate, m.steps) for m in mechanisms]
    return float(accountant.get_epsilon(delta))


def _pld(mechanisms: Sequence[Sampled], delta: float) -> float:
    from dp_accounting import dp_event
    from dp_accounting.pld import PLDAccountant

    accountant = PLDAccountant(value_discretization_interval=1e-3)
    for m in mechanisms:
        event: dp_event.DpEvent = dp_event.GaussianDpEvent(m.noise_multiplier)
        if m.sampling_rate < 1:
            event = dp_event.PoissonSampledDpEvent(m.sampling_rate, event)
        accountant.compose(dp_event.SelfComposedDpEvent(event, m.steps))
    return float(accountant.get_epsilon(delta))


def epsilon_spent(mechanisms: Sequence[Sampled], delta: float) -> float:
    """Return epsilon at `delta` for all mechanisms together.

    Raises:
        ConfigError: nothing to account for, the accountants disagree by more than 5 %, or are not installed.
    """
    if not mechanisms or not 0 < delta < 1:
        raise ConfigError(f"accounting needs a mechanism and 0 < delta < 1, got {len(mechanisms)}, delta={delta}")
    try:
        found = (_prv(mechanisms, delta), _pld(mechanisms, delta))
    except ImportError as error:
        raise ConfigError(_INSTALL) from error
    if not all(map(math.isfinite, found)) or max(found) > min(found) * (1 + _AGREE) + 0.01:
        raise ConfigError(
            f"the accountants disagree: PRV says epsilon={found[0]:.3f}, PLD says {found[1]:.3f}; nothing is claimed"
        )
    return max(found)


def noise_for(epsilon: float, delta: float, *, sampling_rate: float, steps: int) -> float:
    """Return the smallest noise multiplier, to 0.5 %, whose `steps` stay within (epsilon, delta) by both accountants.

    Raises:
        ConfigError: no noise up to 10,000 keeps to it, or the accountants disagree or are not installed.
    """

    def spent(sigma: float) -> float:
        return _pld([Sampled(sigma, sampling_rate, steps)], delta)

    try:
        low, high = 0.1, 1.0
        while spent(high) > epsilon:
            low, high = high, 2 * high
            if high > 1e4:
                raise ConfigError(f"epsilon={epsilon:g}: no noise keeps to it in {steps} steps; take fewer steps")
        while high / low > 1.005:
            middle = math.sqrt(low * high)
            low, high = (middle, high) if spent(middle) > epsilon else (low, middle)
    except ImportError as error:
        raise ConfigError(_INSTALL) from error
    while epsilon_spent([Sampled(high, sampling_rate, steps)], delta) > epsilon:
        high *= 1.005
    return high


def noise_beside(
    epsilon: float, delta: float, *, sampling_rate: float, steps: int, share: float
) -> tuple[float, float]:
    """Return (sigma of `steps` steps, sigma of one release beside them) that keep to (epsilon, delta) together.

    Args:
        epsilon: of both.
        delta: of both.
        sampling_rate: of the steps; the release asks everybody.
        steps: how many.
        share: of 1 / sigma^2 that the release may take, if it stood alone.

    Raises:
        ConfigError: as `noise_for`.
    """
    release = noise_for(epsilon, delta, sampling_rate=1.0, steps=1) / share**0.5
    sigma = noise_for(epsilon, delta, sampling_rate=sampling_rate, steps=steps)
    while epsilon_spent([Sampled(sigma, sampling_rate, steps), Sampled(release, 1.0, 1)], delta) > epsilon:
        sigma *= 1.01
    return sigma, release
