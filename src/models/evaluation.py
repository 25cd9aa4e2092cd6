"""Loss and accuracy on a whole set, in evaluation mode."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

from src.models.network import Network
from src.models.noise import Noise
from src.models.norms import TRACKING

BatchSource = Callable[[], Iterable[tuple[Tensor, Tensor]]]


@torch.no_grad()
def evaluate(
    model: Network, batches: BatchSource, passes: int = 1, mean_noise: bool = False
) -> dict[str, float]:
    """Return a model's ``loss`` and, if it classifies, ``accuracy`` over ``batches()``.

    The loss is the batches' mean, weighted by their sizes; the accuracy is a fraction.

    Noise stays on, as in training. The mode of each part of the model and the clock are left as
    they were.

    Args:
        model: Of any variant.
        batches: Gives the set anew at each call.
        passes: A noisy model's figures are the mean over so many passes, each with its own draws.
        mean_noise: Add a noisy classifier's ``accuracy_mean_noise``, its noise at its expectation.
    """
    noisy = [layer for layer in model.network if isinstance(layer, Noise) and not layer.off]
    with _in_evaluation(model):
        runs = [_score(model, batches(), number) for number in range(passes if noisy else 1)]
        scores = {name: sum(run[name] for run in runs) / len(runs) for name in runs[0]}
        if noisy and mean_noise and model.classes:
            with _each(noisy, expected=True):
                scores["accuracy_mean_noise"] = _score(model, batches(), 0)["accuracy"]
    return scores


@contextmanager
def without_noise(model: Network, batches: BatchSource) -> Iterator[None]:
    """Switch the noise off and gather the norms' running statistics anew over ``batches()``.

    The statistics gathered in training belong to activations that earlier noise had disturbed;
    with the noise gone they are wrong. Here they become the mean over the given batches of the
    batch mean and of the unbiased batch variance (Ioffe & Szegedy, Algorithm 2; a last batch of a
    single image has none and is left out) or of the lp norm, and afterwards what they were.
    """
    norms = [layer for layer in model.network if isinstance(layer, TRACKING)]
    kept = [{name: b.clone() for name, b in norm.named_buffers()} for norm in norms]
    momenta = [norm.momentum for norm in norms]
    with _each([layer for layer in model.network if isinstance(layer, Noise)], off=True):
        try:
            with torch.no_grad(), _in_evaluation(model):
                for norm in norms:
                    norm.train()
                several = (images for images, _ in batches() if len(images) > 1)
                for count, images in enumerate(several, start=1):
                    for norm in norms:
                        norm.momentum = 1 / count
                    model(images)
            yield
        finally:
            for norm, buffers, momentum in zip(norms, kept, momenta, strict=True):
                norm.momentum = momentum
                for name, buffer in norm.named_buffers():
                    buffer.copy_(buffers[name])


def _score(
    model: Network, batches: Iterable[tuple[Tensor, Tensor]], number: int
) -> dict[str, float]:
    # A plain sum: torchmetrics' mean leaves NaN out, or, told not to, leaves the weights out.
    loss, count = torch.zeros((), dtype=torch.float64, device=model.device), 0
    accuracy = None
    if model.classes:
        accuracy = MulticlassAccuracy(model.classes, average="micro", validate_args=False)
        accuracy.to(model.device)
    for index, (inputs, targets) in enumerate(batches):
        model.clock.evaluation = (index, number)
        output = model(inputs)
        loss += model.loss(output, targets) * len(targets)
        count += len(targets)
        if accuracy:
            accuracy.update(output, targets)
    scores = {"loss": float(loss / count)}
    return scores | ({"accuracy": float(accuracy.compute())} if accuracy else {})


@contextmanager
def _in_evaluation(model: Network) -> Iterator[None]:
    evaluation, modes = model.clock.evaluation, {part: part.training for part in model.modules()}
    model.eval()
    try:
        yield
    finally:
        model.clock.evaluation = evaluation
        for part, training in modes.items():
            part.training = training


@contextmanager
def _each(layers: Iterable[nn.Module], **flags: Any) -> Iterator[None]:
    """Set attributes of some layers and set them back."""
    before = [(layer, {name: getattr(layer, name) for name in flags}) for layer in layers]
    for layer, _ in before:
        vars(layer).update(flags)
    try:
        yield
    finally:
        for layer, values in before:
            vars(layer).update(values)
