"""What a run's tables say of it: accuracies, steps, and medians of ratios between two runs."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import polars
from polars import DataFrame, col

from src.analysis.claims.cells import Cells, Run, pairs
from src.analysis.claims.result import Component
from src.analysis.claims.rulebook import rules
from src.analysis.claims.verdict import Direction, ratio
from src.analysis.drift import drift
from src.analysis.losses import smoothed
from src.analysis.statistics import first_reached, steps_ratio

Nets = tuple[Mapping[int, Run], Mapping[int, Run]]  # the standard network's runs and BatchNorm's
Window = tuple[float, float]  # of training, in fractions of its steps
WHOLE: Window = (0.0, math.inf)
LATE = 0.9  # the last tenth of training begins
POINTS = 100  # percentage points in a fraction
ERROR_OF_DIFFERENCE = math.sqrt(2)  # of two independent errors of 1


def train_accuracy(run: Run, accuracy: str = "train_eval/accuracy") -> float:
    """Return the final training accuracy; NaN where it was never taken.

    Args:
        run: The run.
        accuracy: ``train_eval/accuracy``: in evaluation mode; ``minibatch``: the mean of the
            minibatches over the last tenth of training.
    """
    if accuracy == "minibatch":
        return rules().chance if run.diverged else _late(run, "train/accuracy")
    return _final(run, accuracy)


def test_accuracy(run: Run) -> float:
    """Return the final test accuracy; NaN where it was never taken."""
    return _final(run, "val/accuracy")


def _final(run: Run, name: str) -> float:
    if run.diverged:
        return rules().chance
    values = run.metric(name)["value"]
    return values[-1] if len(values) else math.nan


def own_initialisation(cells: Cells, lr: float) -> Nets:
    """Return the standard network's runs from He's initialisation, BatchNorm's from Glorot's."""
    return (
        cells.of("vgg", optim__lr=lr, init__name="he_normal"),
        cells.of("vgg_bn", optim__lr=lr, init__name="glorot_normal"),
    )


def late_loss(run: Run) -> float:
    """Return the mean training loss over the last tenth of training; infinite if it diverged."""
    return math.inf if run.diverged else _late(run, "train/loss")


def _late(run: Run, name: str) -> float:
    mean = run.metric(name).filter(col("step") >= LATE * run.steps)["value"].mean()
    return math.nan if mean is None else float(mean)  # type: ignore[arg-type]


def gained(first: Mapping[int, Run], second: Mapping[int, Run], accuracy: str) -> dict[int, float]:
    """Return each seed's difference of final training accuracies, second - first, in points."""
    return pairs(
        first,
        second,
        lambda a, b: POINTS * (train_accuracy(b, accuracy) - train_accuracy(a, accuracy)),
    )


def trains(run: Run, scale: str, accuracy: str) -> bool:
    """Tell whether a run ended with a training accuracy that is no accident."""
    return train_accuracy(run, accuracy) >= rules().trains[scale]


def accuracy_error(
    runs: Iterable[Run], accuracy: str = "train_eval/accuracy", differences: int = 1
) -> float:
    """Return the sampling error, in points, of a difference of accuracies of runs (0: of one).

    Of so many images as they are taken of, and where it is largest: at one half.
    """
    images: float = rules().images
    if accuracy == "minibatch":
        images = min(map(_late_images, runs), default=images)
    return POINTS * 0.5 / math.sqrt(images) * ERROR_OF_DIFFERENCE**differences


def _late_images(run: Run) -> float:
    """Return how many images the minibatches recorded in the last tenth of training have."""
    records = (1 - LATE) * run.steps / recorded_every(run, "minibatch")
    return records * run.config["data.batch_size"]


def steps_to(run: Run, level: float, accuracy: str) -> float:
    """Return the steps to an accuracy; infinite where it is never reached, NaN where not recorded.

    Args:
        run: The run; a diverged one may have reached it before.
        level: The accuracy, a fraction.
        accuracy: ``minibatch``: the mean of five recorded minibatches; else
            the metric whose first value at the level counts.
    """
    minibatch = accuracy == "minibatch"
    rows = run.metric("train/accuracy" if minibatch else accuracy)
    if rows.is_empty() and not run.diverged:
        return math.nan
    reached = first_reached(
        rows["step"].to_list(), rows["value"].to_list(), level, points=5 if minibatch else 1
    )
    return max(reached, 1.0)


def recorded_every(run: Run, accuracy: str) -> int:
    """Return how many steps lie between two records of an accuracy."""
    return run.config["log_every" if accuracy == "minibatch" else "eval_every"]


def log_variance(steps: Sequence[float], every: int) -> float:
    """Return the variance of the logarithm of steps for being known to within ``every``."""
    return sum((every / at) ** 2 for at in steps) / 12 / len(steps)  # 0 where never there


def steps_component(
    label: str,
    what: str,
    first: Mapping[int, Run],
    second: Mapping[int, Run],
    level: float,
    accuracy: str,
    direction: Direction,
    margin: float = 1.0,
) -> Component:
    """Judge the ratio of steps to an accuracy, second over first, restricted to those trained.

    Where neither of any pair gets there, nothing was run that could tell; a pair of which neither
    does shows nothing to be as fast.
    """
    nets = (first, second)
    steps = {s: [steps_to(net[s], level, accuracy) for net in nets] for s in first if s in second}
    seeds = [seed for seed, both in sorted(steps.items()) if not any(map(math.isnan, both))]
    a, b = ([steps[seed][net] for seed in seeds] for net in (0, 1))
    found = steps_ratio(a, b, [float(first[seed].steps) for seed in seeds])
    if not any(found.reached):
        return Component(label, what, None, None, None, len(seeds), None, "not run")
    if found.reached != (len(seeds), len(seeds)):
        counts = " and ".join(f"{reached} of {len(seeds)}" for reached in found.reached)
        label += f" (reached by {counts}, exact p {found.p_reached:.2g})"
    every = recorded_every(first[seeds[0]], accuracy)
    floor = math.sqrt(log_variance(a, every) + log_variance(b, every))
    logs = dict(zip(seeds, found.log_ratio, strict=True))
    bounds = {found.bound} if found.bound else set()
    if accuracy != "minibatch":  # who is there at the first evaluation was there before
        bounds |= {"at least"} if min(a) <= every else set()
        bounds |= {"at most"} if min(b) <= every else set()
    bound = min(bounds) if len(bounds) == 1 else None
    judged = ratio(label, what, logs, direction, 1.0, margin, floor, bound)
    shows_nothing = found.neither and direction.startswith("not") and judged.verdict == "supported"
    return replace(judged, verdict="inconclusive") if shows_nothing or len(bounds) > 1 else judged


def median_log_ratio(first: DataFrame, second: DataFrame, column: str, on: Sequence[str]) -> float:
    """Return the median of log(second / first) over the rows both have; NaN where there is none."""
    return _median(first, second, (col(f"{column}_second") / col(column)).log(), on)


def median_difference(first: DataFrame, second: DataFrame, column: str, on: Sequence[str]) -> float:
    """Return the median of second - first over the rows both have; NaN where there is none."""
    return _median(first, second, col(f"{column}_second") - col(column), on)


def _median(first: DataFrame, second: DataFrame, change: polars.Expr, on: Sequence[str]) -> float:
    both = first.join(second, on=on, suffix="_second")
    return median(both.select(change).to_series())


class EqualLoss(NamedTuple):
    """What counts as an equal training loss, see :func:`smoothed`.

    Attributes:
        within: How far apart two losses may be, in nats.
        below: Only losses below this: a network that stays at chance has none to compare.
        least: At how many different steps of the second run there must be one; with fewer, none
            is taken.
    """

    within: float
    below: float
    least: int


def at_equal_loss(
    first: Run, a: DataFrame, second: Run, b: DataFrame, equal: EqualLoss
) -> DataFrame:
    """Return what the second run's probes found where the first had the same training loss.

    Args:
        first: A run.
        a: Its probed steps, ``step`` among the columns.
        second: Another.
        b: What its probes found.
        equal: What counts as that.

    Returns:
        Rows of ``b``, once for each step of ``a`` to which their loss is the nearest, with that as
        their ``step``.
    """
    mine, theirs = (
        _losses(run, rows).filter(col("loss") < equal.below).sort("loss")
        for run, rows in ((first, a), (second, b))
    )
    nearest = mine.join_asof(
        theirs.rename({"step": "second"}), on="loss", strategy="nearest", tolerance=equal.within
    )
    matched = nearest.drop_nulls().select("step", "second")
    if matched["second"].n_unique() < equal.least:
        matched = matched.clear()
    return b.rename({"step": "second"}).join(matched, on="second")


def _losses(run: Run, probed: DataFrame) -> DataFrame:
    losses = smoothed(run.metric("train/loss"))
    return losses.join(probed.select("step").unique(), on="step")


def median(values: polars.Series) -> float:
    """Return the median of the values there are; NaN where there is none."""
    middle = values.drop_nulls().drop_nans().median()
    return math.nan if middle is None else float(middle)  # type: ignore[arg-type]


def log(value: float) -> float:
    """Return the logarithm, infinite at 0 and NaN where there is none."""
    return -math.inf if value == 0 else math.log(value) if value > 0 else math.nan


def drifts(
    first: Mapping[int, Run], at: str, second: Mapping[int, Run], site: str, column: str = "mean"
) -> dict[int, float]:
    """Return each seed's median log ratio, over steps and layers, of a column of :func:`drift`.

    Args:
        first: A run a seed.
        at: The site looked at there.
        second: What it is paired with.
        site: The site looked at there.
        column: ``mean`` or ``distribution``.
    """

    def change(a: Run, b: Run) -> float:
        moved, other = drift(a.rows("activations"), at), drift(b.rows("activations"), site)
        return median_log_ratio(moved, other, column, ["step", "layer"])

    return pairs(first, second, change)


def drift_component(
    cells: Cells,
    lr: float,
    model: str,
    site: str,
    direction: Direction,
    label: str,
    name: str,
    column: str = "mean",
) -> Component:
    """Judge a column of a variant's drift at a site against the standard network's.

    That has one distribution a layer, which enters its non-linearity.
    """
    standard, other = cells.pair("vgg", model, optim__lr=lr)
    what = f"step-to-step change of {column} over spread, {name} / standard"
    return ratio(label, what, drifts(standard, "after_noise", other, site, column), direction)
