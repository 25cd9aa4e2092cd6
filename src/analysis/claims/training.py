"""Who trains, and how fast: BatchNorm and the standard network, in what setting."""

from collections.abc import Mapping, Sequence

from src.analysis.claims.cells import Cells, Run, pairs
from src.analysis.claims.measures import (
    POINTS,
    accuracy_error,
    gained,
    steps_component,
    test_accuracy,
    train_accuracy,
)
from src.analysis.claims.registry import claim
from src.analysis.claims.result import Component
from src.analysis.claims.rulebook import rules
from src.analysis.claims.verdict import Finding, difference


@claim
def faster_training(cells: Cells, levels: Sequence[float], lr: float) -> Finding:
    """Compare the steps to each training accuracy at one rate."""
    networks = cells.pair("vgg", "vgg_bn", optim__lr=lr)
    return _faster(*networks, levels, cells.measured["accuracy"])


@claim
def mlp_faster(cells: Cells, levels: Sequence[float]) -> Finding:
    """Compare the steps to each test accuracy of the sigmoid network."""
    return _faster(*cells.pair("mlp", "mlp_bn"), levels, "val/accuracy")


def _faster(
    standard: Mapping[int, Run],
    normalised: Mapping[int, Run],
    levels: Sequence[float],
    accuracy: str,
) -> Finding:
    what = "ratio of steps, BatchNorm / standard"
    return Finding(
        [
            steps_component(f"to {level:.0%}", what, standard, normalised, level, accuracy, "less")
            for level in levels
        ]
    )


@claim
def trains_at_half(cells: Cells, lr: float) -> Finding:
    """Compare test accuracies at a rate too high for the standard network; tell who trains."""
    standard, normalised = cells.pair("vgg", "vgg_bn", optim__lr=lr)
    gained = pairs(
        standard, normalised, lambda a, b: POINTS * (test_accuracy(b) - test_accuracy(a))
    )
    return Finding(
        [
            beyond_training("BatchNorm trains", cells, "vgg_bn", "greater", optim__lr=lr),
            beyond_training("the standard network does not", cells, "vgg", "less", optim__lr=lr),
        ],
        headline=difference(
            "",
            "test accuracy, BatchNorm - standard, points",
            gained,
            "greater",
            floor=accuracy_error(cells),
        ),
    )


@claim
def saturating_trains(cells: Cells, activations: Sequence[str], lr: float) -> Finding:
    """Tell whether BatchNorm trains with each saturating non-linearity, and better with it."""
    parts, accuracy = [], cells.measured["accuracy"]
    for activation in activations:
        at = {"optim.lr": lr, "model.activation": activation}
        parts += [
            beyond_training(f"{activation}: BatchNorm trains", cells, "vgg_bn", "greater", **at),
            difference(
                f"{activation}: against the standard network",
                "final training accuracy, BatchNorm - standard, points",
                gained(*cells.pair("vgg", "vgg_bn", **at), accuracy),
                "greater",
                floor=accuracy_error(cells, accuracy),
            ),
        ]
    return Finding(parts)


@claim
def every_batch_size(cells: Cells, lr: float, sizes: Sequence[int]) -> Finding:
    """Compare final training accuracies at each batch size."""
    accuracy = cells.measured["accuracy"]
    return Finding(
        [
            difference(
                f"batches of {size}",
                "final training accuracy, BatchNorm - standard, points",
                gained(*cells.pair("vgg", "vgg_bn", optim__lr=lr, data__batch_size=size), accuracy),
                "greater",
                floor=accuracy_error(cells, accuracy),
            )
            for size in sizes
        ]
    )


@claim
def constant_statistics(cells: Cells, lrs: Sequence[float]) -> Finding:
    """Tell whether BatchNorm trains when its statistics are constants of each step."""
    running = {"model.statistics": "running"}
    return Finding(
        [
            beyond_training(f"LR {lr:g}", cells, "vgg_bn", "less", optim__lr=lr, **running)
            for lr in lrs
        ]
    )


def beyond_training(
    label: str, cells: Cells, model: str, direction: str, **axes: object
) -> Component:
    """Judge a variant's final training accuracy against what counts as training."""
    least = rules().trains[cells.scale]
    accuracies = {
        s: train_accuracy(r, **cells.measured) for s, r in cells.of(model, **axes).items()
    }
    return difference(
        label,
        f"final training accuracy - {least:.0%}, points",
        {seed: POINTS * (accuracy - least) for seed, accuracy in accuracies.items()},
        "greater" if direction == "greater" else "less",
        floor=accuracy_error(cells, differences=0, **cells.measured),
    )
