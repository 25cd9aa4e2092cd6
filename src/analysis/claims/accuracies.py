"""How far a run's training came: its accuracies, and its loss."""

import math
from collections.abc import Iterable, Mapping

from polars import col

from src.analysis.claims.cells import Run, pairs
from src.analysis.claims.rulebook import rules

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


def recorded_every(run: Run, accuracy: str) -> int:
    """Return how many steps lie between two records of an accuracy."""
    return run.config["log_every" if accuracy == "minibatch" else "eval_every"]
