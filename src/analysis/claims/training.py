"""Who trains, and how fast: BatchNorm and the standard network, in what setting."""

from collections.abc import Mapping, Sequence

from src.analysis.claims.accuracies import (
    POINTS,
    accuracy_error,
    gained,
    test_accuracy,
    train_accuracy,
)
from src.analysis.claims.cells import Cells, Run, pairs
from src.analysis.claims.registry import claim
from src.analysis.claims.result import Component
from src.analysis.claims.rulebook import rules
from src.analysis.claims.steps import steps_component
from src.analysis.claims.verdict import Direction, Finding, difference


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
    least = rules().trains[cells.scale]
    standard, normalised = cells.pair("vgg", "vgg_bn", optim__lr=lr)
    ahead = pairs(standard, normalised, lambda a, b: POINTS * (test_accuracy(b) - test_accuracy(a)))
    return Finding(
        [
            beyond("BatchNorm trains", cells, "vgg_bn", "greater", least, optim__lr=lr),
            beyond("the standard network does not", cells, "vgg", "less", least, optim__lr=lr),
        ],
        whole=difference(
            "",
            "test accuracy, BatchNorm - standard, points",
            ahead,
            "greater",
            floor=accuracy_error(cells.runs),
        ),
    )


@claim
def saturating_trains(cells: Cells, activations: Sequence[str], lr: float) -> Finding:
    """Tell whether BatchNorm trains with each saturating non-linearity, and better with it."""
    parts, accuracy, least = [], cells.measured["accuracy"], rules().trains[cells.scale]
    for activation in activations:
        at = {"optim.lr": lr, "model.activation": activation}
        parts += [
            beyond(f"{activation}: BatchNorm trains", cells, "vgg_bn", "greater", least, **at),
            difference(
                f"{activation}: against the standard network",
                "final training accuracy, BatchNorm - standard, points",
                gained(*cells.pair("vgg", "vgg_bn", **at), accuracy),
                "greater",
                floor=accuracy_error(cells.runs, accuracy),
            ),
        ]
    return Finding(parts)


@claim
def every_batch_size(cells: Cells, lr: float, sizes: Sequence[int]) -> Finding:
    """Compare final training accuracies at each batch size."""
    parts, accuracy = [], cells.measured["accuracy"]
    for size in sizes:
        nets = standard, normalised = cells.pair(
            "vgg", "vgg_bn", optim__lr=lr, data__batch_size=size
        )
        parts.append(
            difference(
                f"batches of {size}",
                "final training accuracy, BatchNorm - standard, points",
                gained(*nets, accuracy),
                "greater",
                floor=accuracy_error([*standard.values(), *normalised.values()], accuracy),
            )
        )
    return Finding(parts)


@claim
def constant_statistics(
    cells: Cells, lrs: Sequence[float], statistics: Sequence[str], stopped: float
) -> Finding:
    """Tell whether BatchNorm trains when its statistics are constants to the gradient."""
    return Finding(
        [
            beyond(
                f"{kind}, LR {lr:g}",
                cells,
                "vgg_bn",
                "less",
                stopped,
                optim__lr=lr,
                model__statistics=kind,
            )
            for kind in statistics
            for lr in lrs
        ]
    )


def beyond(
    label: str, cells: Cells, model: str, direction: Direction, than: float, **axes: object
) -> Component:
    """Judge a variant's final training accuracy against a fixed one."""
    accuracies = {
        s: train_accuracy(r, **cells.measured) for s, r in cells.of(model, **axes).items()
    }
    return difference(
        label,
        f"final training accuracy - {than:.0%}, points",
        {seed: POINTS * (accuracy - than) for seed, accuracy in accuracies.items()},
        direction,
        floor=accuracy_error(cells.runs, differences=0, **cells.measured),
    )
