"""BatchNorm followed by noise: unstable distributions, and yet it trains."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy

from src.analysis.claims.accuracies import (
    POINTS,
    accuracy_error,
    gained,
    recorded_every,
    train_accuracy,
    trains,
)
from src.analysis.claims.cells import Cells, Run, pairs
from src.analysis.claims.drifts import drift_component, drifts
from src.analysis.claims.registry import claim
from src.analysis.claims.result import Component, Verdict
from src.analysis.claims.rulebook import rules
from src.analysis.claims.steps import log_variance, steps_to
from src.analysis.claims.verdict import Direction, Finding, component, difference, ratio
from src.analysis.statistics import ratio_of_means, steps_ratio


@claim
def noisy_trains(cells: Cells, levels: Sequence[float], lr: float, share: float) -> Finding:
    """Tell how much of the gap in log steps, standard to BatchNorm, noisy BatchNorm closes."""
    nets = [cells.of(model, optim__lr=lr) for model in ("vgg", "vgg_bn", "vgg_noisy")]
    seeds = sorted(set.intersection(*(set(net) for net in nets)))
    runs = {seed: tuple(net[seed] for net in nets) for seed in seeds}
    return Finding([_closed(level, runs, cells.measured["accuracy"], share) for level in levels])


def _closed(
    level: float, runs: Mapping[int, tuple[Run, ...]], accuracy: str, share: float
) -> Component:
    """Judge the share at one level; runs are those of each seed: standard, BatchNorm, noisy."""
    label, what = f"to {level:.0%}", "share of the gap in log steps that is closed"
    each = {
        seed: tuple(steps_to(run, level, accuracy) for run in nets) for seed, nets in runs.items()
    }
    kept = [seed for seed, steps in each.items() if not any(map(math.isnan, steps))]
    horizon = [float(runs[seed][0].steps) for seed in kept]
    nets = standard, normalised, noisy = [[each[seed][net] for seed in kept] for net in range(3)]
    reached = [sum(map(math.isfinite, steps)) for steps in nets]
    if reached != [len(horizon)] * 3:
        counts = ", ".join(f"{n} of {len(horizon)}" for n in reached)
        label += f" (reached by {counts}: standard, BatchNorm, noisy)"
    if not (reached[0] or reached[2]):  # any share is possible, if there is a gap at all
        told: Verdict = "inconclusive" if reached[1] else "not run"
        return Component(label, what, None, None, None, len(horizon), None, told)
    whole = steps_ratio(normalised, standard, horizon)
    closed = steps_ratio(noisy, standard, horizon)
    every = recorded_every(runs[kept[0]][0], accuracy)
    weights = ((1 - share) ** 2, share**2, 1)
    variances = (log_variance(steps, every) for steps in nets)
    floor = math.sqrt(sum(w * v for w, v in zip(weights, variances, strict=True)))
    found = ratio_of_means(closed.log_ratio, whole.log_ratio, share, rules().level, floor)
    first = 0 if accuracy == "minibatch" else every  # the mean of five takes longer
    verdict: Verdict = "inconclusive"
    if found.interval and numpy.mean(whole.log_ratio) > 0:
        low, high = found.interval
        if low > share and _stands("large", nets, first):
            verdict = "supported"
        elif high < share and _stands("small", nets, first):
            verdict = "contradicted"
    gaps = zip(kept, closed.log_ratio, whole.log_ratio, strict=True)
    alone = {seed: part / gap for seed, part, gap in gaps if gap}
    judged = component(label, what, found, alone, verdict, found.p)
    # A standard net that takes longer than it was given only widens the gap, at the same end.
    late = reached[0] < len(horizon) and reached[1:] == [len(horizon)] * 2
    widened = late and min(*standard, *normalised) > first and (found.effect or 0) < 1
    return replace(judged, bound="at least" if widened else None)


def _stands(size: str, nets: Sequence[Sequence[float]], first: float) -> bool:
    """Tell whether a share is large, or small, whenever those came that were not seen to come.

    Those at the level when first looked at were there before; those never there come after the
    end. Noise that comes earlier closes more of the gap, as do the other two if they come later.
    """
    standard, normalised, noisy = nets
    if size == "large":
        return max(noisy) < math.inf and min(*standard, *normalised) > first
    return min(noisy) > first and max(*standard, *normalised) < math.inf


@claim
def noisy_final(cells: Cells, lr: float, margin: float) -> Finding:
    """Compare final training accuracies of BatchNorm with and without noise."""
    normalised, noisy = cells.pair("vgg_bn", "vgg_noisy", optim__lr=lr)

    def judged(label: str, accuracy: str) -> Component:
        return difference(
            label,
            "final training accuracy, noisy - BatchNorm, points",
            gained(normalised, noisy, accuracy),
            "equal",
            margin=margin,
            floor=accuracy_error(cells.runs, accuracy),
        )

    each = {"minibatches": "minibatch", "evaluation": "train_eval/accuracy"}
    return Finding([judged(label, accuracy) for label, accuracy in each.items()])


@claim
def noisy_unstable(cells: Cells, lr: float, sites: Sequence[str]) -> Finding:
    """Compare the step-to-step change of means at each site with the standard network's."""
    model, name = "vgg_noisy", "noisy"
    return Finding(
        [drift_component(cells, lr, model, site, "greater", site, name) for site in sites]
    )


def stable_distributions(cells: Cells, lr: float, sites: Sequence[str]) -> Finding:
    """Compare BatchNorm's step-to-step change of means at each site with the standard network's."""
    model, name = "vgg_bn", "BatchNorm"
    return Finding([drift_component(cells, lr, model, site, "less", site, name) for site in sites])


claim(stable_distributions, "stable_distributions", "stable_on_same_images")


def steady_for_long(
    cells: Cells,
    lr: float,
    model: str,
    direction: Direction,
    sites: Sequence[str],
    lags: Sequence[int],
    since: Sequence[float],
) -> Finding:
    """Compare the change of means at each site in many steps, from when on."""
    standard, other = cells.pair("vgg", model, optim__lr=lr)

    def part(site: str, lag: int, start: float) -> Component:
        label = f"{site}, {lag} steps" + (f", from {start:.0%} of training on" if start else "")
        what = f"change of mean in {lag} steps over both spreads, {model} / standard"
        window = (start, math.inf)
        values = drifts(standard, "after_noise", other, site, "pooled", lag, window)
        return ratio(label, what, values, direction)

    return Finding([part(site, lag, start) for site in sites for start in since for lag in lags])


claim(steady_for_long, "noisy_unstable_for_long", "stable_for_long")


@claim
def noise_unsettles(cells: Cells, lr: float) -> Finding:
    """Compare the change of what enters the norms, with noise after them and without."""
    site, (normalised, noisy) = "before_norm", cells.pair("vgg_bn", "vgg_noisy", optim__lr=lr)
    what = "step-to-step change of mean over spread before the norm, noisy / BatchNorm"
    return Finding([ratio("", what, drifts(normalised, site, noisy, site), "greater")])


@claim
def plain_noise_stops(cells: Cells, lr: float, stopped: float) -> Finding:
    """Tell whether the noise stops the standard network, where that trains without it."""
    return _stops(cells, lr, stopped)


@claim
def relative_noise_stops(cells: Cells, lr: float, stopped: float) -> Finding:
    """Tell the same of noise in proportion to the activations' spread."""
    return _stops(cells, lr, stopped, noise__relative=True)


@claim
def shifts_stop(cells: Cells, lr: float, stopped: float) -> Finding:
    """Tell the same of the noise's shifts alone."""
    return _stops(cells, lr, stopped, noise__n_sigma=1, noise__r_sigma=0)


def _stops(cells: Cells, lr: float, stopped: float, **kind: float) -> Finding:
    def beyond(without: Run, with_it: Run) -> float:
        trained = trains(without, cells.scale, "train_eval/accuracy")
        return POINTS * (train_accuracy(with_it) - stopped) if trained else math.nan

    standard = cells.of("vgg", optim__lr=lr)
    noisy = cells.of("vgg_plain_noisy", optim__lr=lr, **kind)
    what = f"final training accuracy with the noise - {stopped:.0%}, points"
    floor = accuracy_error(cells.runs, differences=0)
    return Finding([difference("", what, pairs(standard, noisy, beyond), "less", floor=floor)])
