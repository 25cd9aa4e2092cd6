"""From each probe's tensors to the rows of its table, with as few host synchronisations as can be.

Reading the numbers waits once for shift and landscape, once a layer for the theory, once a
Hessian-vector product for the curvature, and for activations on CUDA once a row: counting what
falls into bins waits. What is drawn, and the step sizes, are copied to the device besides.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from src.models.norms import BATCH_NORMS
from src.probes import activations as activations_probe
from src.probes import curvature as curvature_probe
from src.probes.evaluation import Batch, Evaluation, LossFunction, untouched
from src.probes.landscape import landscape as landscape_probe
from src.probes.layers import default_layers
from src.probes.shift import Shift, internal_covariate_shift
from src.probes.theory import at_layer
from src.randomness import generator
from src.settings import ProbesSettings

Row = tuple[Any, ...]


@dataclass
class View:
    """One optimiser step as the probes see it.

    Attributes:
        step: From 0.
        network: In training mode, its layers named as in ``src.models.network``.
        loss_fn: ``(output, target) -> scalar``.
        batch: What the probes evaluate.
        before: The parameters before the update, by name, in the probes' precision.
        after: The same after it.
        loss: The measured loss in the step itself, a scalar.
        gradient: Of the measured loss, from what the optimiser was given, by name.
        lr: The learning rate.
        weight_decay: Coefficient of the L2 term in the measured loss; 0 for the data's alone.
        seed: The run's.
        fixed: Gives batches that stay the same throughout the run, to those who want them.
        exact: Whether training computed loss and gradient on the probes' batch, in their precision.
    """

    step: int
    network: nn.Sequential
    loss_fn: LossFunction
    batch: Batch
    before: dict[str, Tensor]
    after: dict[str, Tensor]
    loss: Tensor
    gradient: dict[str, Tensor]
    lr: float
    weight_decay: float
    seed: int
    fixed: Callable[[], Sequence[Batch]]
    exact: bool


class GradientMismatch(Exception):
    """The gradient the optimiser was given is not the one the probe computes."""


def ics(view: View, settings: ProbesSettings) -> list[Row]:
    """Return a row a layer: internal covariate shift of this step's update.

    Raises:
        GradientMismatch: If the probe's G differs from the gradient hooked in the step, where both
            are of the same batch and in the same precision.
    """
    after = view.after
    if settings.update == "gradient":
        after = {n: p - view.lr * view.gradient[n].to(p) for n, p in view.before.items()}
    only = settings.layers or None
    shift = internal_covariate_shift(
        *(view.network, view.loss_fn, view.batch, view.before, after),
        only=only,
        weight_decay=view.weight_decay,
    )
    weights = torch.stack([view.before[name].norm() for name in shift.names])
    columns = [shift.l2, shift.cosine, shift.relative, shift.grad_norm, shift.grad_norm_after]
    values = torch.stack([*columns, weights, _strangeness(shift, view)], dim=1).tolist()
    strangest = max(row.pop() for row in values)
    if view.exact and strangest > 1:
        raise GradientMismatch("the probe's G is not the gradient that the optimiser was given")
    numbers = _numbers(view.network)
    return [
        (view.step, numbers[name], name, *row)
        for name, row in zip(shift.names, values, strict=True)
    ]


def _strangeness(shift: Shift, view: View) -> Tensor:
    """Return how far each G is from the hooked gradient, in units of what rounding may explain."""
    pairs = [(g, view.gradient[name].to(g)) for name, g in shift.gradients.items()]
    rounding = 0.01 * shift.grad_norm + 1e-6 * shift.grad_norm.norm()
    return torch.stack([(g - hooked).norm() for g, hooked in pairs]) / rounding


def landscape(view: View, settings: ProbesSettings) -> list[Row]:
    """Return a row a metric, direction and step size.

    Relative step sizes are matched to the euclidean ones by the loss's first-order decrease.
    """
    unit = view.lr if settings.step_sizes_are == "multiples" else 1.0
    sizes = [unit * size for size in settings.step_sizes]
    about, columns = [], []
    at_zero = _at_zero(view)
    for metric in settings.metrics:
        for direction in settings.directions:
            random = direction == "random"
            given = _random_direction(view, metric, at_zero[1]) if random else None
            found = landscape_probe(
                *(view.network, view.loss_fn, view.batch, view.before, sizes, given, metric),
                weight_decay=view.weight_decay,
                matched=metric == "relative",
                at_zero=at_zero,
            )
            whole = (found.loss_at_zero, found.grad_norm, found.weight_norm)
            zero, norm, weight = (value.expand(len(sizes)) for value in whole)
            at = (found.grad_norm_at, found.grad_diff, found.cosine, found.beta)
            about += [(metric, direction, size) for size in sizes]
            columns.append(torch.stack([found.eta, zero, found.loss, norm, *at, weight], dim=1))
    return [
        # The euclidean step size as it was given, not as rounded to the probe's precision.
        (view.step, metric, direction, size if metric == "euclidean" else eta, *values)
        for (metric, direction, size), (eta, *values) in zip(
            about, torch.cat(columns).tolist(), strict=True
        )
    ]


def _at_zero(view: View) -> tuple[Tensor, list[Tensor]]:
    """Return loss and gradient before the update: the step's own, or evaluated."""
    if view.exact:
        return view.loss, [view.gradient[name] for name in view.before]
    precision = next(iter(view.before.values())).dtype
    evaluation = Evaluation(view.network, view.loss_fn, view.batch, precision, view.weight_decay)
    with untouched():
        return evaluation.gradient(view.before, list(view.before))


def _random_direction(view: View, metric: str, gradient: Sequence[Tensor]) -> dict[str, Tensor]:
    """Return a direction, all alike likely in the metric, as long in it as the gradient."""
    theta, relative = list(view.before.values()), metric == "relative"
    D = torch.stack([p.norm() if relative else p.new_ones(()) for p in theta])
    sizes = [p.numel() for p in theta]
    stream = generator(view.seed, "probe", "direction", view.step)
    drawn = torch.randn(sum(sizes), generator=stream).to(D).split(sizes)
    d = [torch.where(n > 0, z / n, 0.0) for n, z in zip(D, drawn, strict=True)]
    own, length = (
        (D * torch.stack([part.norm() for part in vector])).norm() for vector in (d, gradient)
    )
    return {
        name: (length / own * part).view_as(p)
        for (name, p), part in zip(view.before.items(), d, strict=True)
    }


SITES = {
    "before_norm": ("conv", "linear"),
    "after_norm": ("norm",),
    "after_noise": ("affine", "noise", "norm", "conv", "linear"),
}


def activations(view: View, settings: ProbesSettings) -> list[Row]:
    """Return a row a layer, site and unit, and one for the layer as a whole.

    ``before_norm`` is what the linear map puts out, ``after_norm`` what the norm makes of it,
    where there is one, and ``after_noise`` what enters the non-linearity.
    """
    children = dict(view.network.named_children())
    numbers = _numbers(view.network)
    chosen = settings.layers or sorted(set(numbers.values()))[:-1]
    sites = {
        layer: {
            site: name
            for site, kinds in SITES.items()
            if (name := next((f"{k}{layer}" for k in kinds if f"{k}{layer}" in children), None))
        }
        for layer in chosen
    }
    layer_of = {name: layer for layer, names in sites.items() for name in names.values()}
    units: dict[str, Tensor] = {}
    spread: dict[str, activations_probe.Distribution] = {}

    def hear(name: str, values: Tensor) -> None:
        stream = generator(view.seed, "probe", "units", layer_of[name])
        units[name] = torch.randperm(values.shape[1], generator=stream)[: settings.units]
        whole = values.movedim(1, -1).reshape(1, -1)  # not copied where channels lie last
        parts = [whole]
        if settings.units:
            parts.append(values.movedim(1, 0)[units[name]].flatten(1))
        spread[name] = activations_probe.joined([activations_probe.distribution(p) for p in parts])

    activations_probe.activations(view.network, view.batch, view.before, list(layer_of), hear)
    places = [(layer, s, name) for layer, names in sites.items() for s, name in names.items()]
    keys = [
        (view.step, layer, name, site, unit)
        for layer, site, name in places
        for unit in (None, *units[name].tolist())
    ]
    found = activations_probe.joined([spread[name] for _, _, name in places])
    moments = torch.stack([found.mean, found.variance], 1)
    rows = torch.cat([moments, found.quantiles, found.edges, found.counts], 1).tolist()
    bins = activations_probe.BINS
    return [
        (*key, *row[:5], *_histogram(row[5 : 6 + bins], row[6 + bins :]))
        for key, row in zip(keys, rows, strict=True)
    ]


def _histogram(edges: list[float], counts: list[float]) -> tuple[Any, Any]:
    """Return edges and counts; None for both where an activation was not finite."""
    if math.isnan(edges[0]):
        return None, None
    return edges, [int(count) for count in counts]


def curvature(view: View, settings: ProbesSettings) -> list[Row]:
    """Return a row a quantity, each also times the learning rate."""
    along = curvature_probe.along_gradient(
        view.network, view.loss_fn, view.batch, view.before, view.weight_decay
    )
    stream = generator(view.seed, "probe", "lanczos", view.step, device=along.curvature.device)
    top = curvature_probe.largest_eigenvalue(
        *(view.network, view.loss_fn, view.fixed(), view.before, stream),
        weight_decay=view.weight_decay,
    )
    gradient, smoothness, value, error = torch.stack(
        [x.double() for x in (along.curvature, along.smoothness, top.value, top.error)]
    ).tolist()
    quantities = {
        "gradient_curvature": (gradient, None),
        "gradient_smoothness": (smoothness, None),
        "largest_eigenvalue": (value, error),
    }
    return [
        (view.step, name + suffix, factor * value, None if error is None else factor * error)
        for suffix, factor in (("", 1.0), ("_times_lr", view.lr))
        for name, (value, error) in quantities.items()
    ]


def theory(view: View, settings: ProbesSettings) -> list[Row]:
    """Return a row a layer and quantity: the size of each part of Theorems 4.1 and 4.2.

    Parts are summed over the units, dead ones, whose gradient is zero, left out; of Theorem 4.2
    over the first ``settings.units``. With activation gradients held fixed the ratio of Theorem
    4.4's two sides is that of 4.1's, ``gradient_ratio``. They are about BatchNorm: other norms have
    no row, nor has one whose statistics are constants.
    """
    rows: list[Row] = []
    for layer in settings.layers or sorted(set(_numbers(view.network).values())):
        norm = getattr(view.network, f"norm{layer}", None)
        if not (isinstance(norm, BATCH_NORMS) and norm.training) or getattr(
            norm, "detached", False
        ):
            continue
        units = range(min(settings.units, len(cast(Tensor, norm.running_mean))))
        first, second = at_layer(
            view.network, view.loss_fn, view.batch, view.before, f"norm{layer}", units
        )
        alive, share = first.plain > 0, first.plain / first.plain.sum()
        looked_at = alive[list(units)]
        quantities = {
            "gradient_left": first.left.sum(),
            "gradient_right": first.right.sum(),
            "gradient_ratio": first.left.sum() / first.plain.sum(),
            "factor": first.factor.where(alive, math.nan).nanmedian(),
            "factor_weighted": (share * first.factor).sum(),
            "mean_share": (share * first.mean).where(alive, 0.0).sum(),
            "correlation_share": (share * first.correlation).where(alive, 0.0).sum(),
            "curvature_left": second.left.sum(),
            "curvature_form": second.form.sum(),
            "curvature_factored_form": (second.factor * second.form).sum(),
            "curvature_correction": second.correction.sum(),
            "preconditions_hold": (second.holds & looked_at).sum() / looked_at.sum(),
        }
        values = torch.stack(list(quantities.values())).tolist()
        rows += [(view.step, layer, name, v) for name, v in zip(quantities, values, strict=True)]
    return rows


def _numbers(network: nn.Module) -> dict[str, int]:
    """Return the number, from 1, of the layer each weight belongs to."""
    return {names[0]: number for number, names in enumerate(default_layers(network), start=1)}


MEASURES: Mapping[str, Callable[[View, ProbesSettings], list[Row]]] = {
    "ics": ics,
    "landscape": landscape,
    "activations": activations,
    "curvature": curvature,
    "theory": theory,
}
