"""What every network here shares: the optimiser, the clock of its draws, the training step."""

from collections import OrderedDict
from contextlib import nullcontext
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from src.models.clock import Clock
from src.models.init import initialise
from src.models.norms import holding_statistics
from src.settings import Settings

ACTIVATIONS = {
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}


class Network(pl.LightningModule):
    """A ``network`` of named layers trained by SGD.

    Layers count from 1: convolution i is ``network.conv<i>``, linear map i ``network.linear<i>``,
    and what the variant adds follows as ``norm<i>``, ``noise<i>``, ``affine<i>``. A family says
    what its network is and what its :meth:`loss` is; a variant overrides :meth:`between`.

    Attributes:
        classes: How many classes it tells apart; None where it is no classifier.
    """

    network: nn.Sequential
    classes: int | None = None

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        self.clock = Clock(settings.seed)

    def between(self, layer: int, units: int, spatial: bool) -> dict[str, nn.Module]:
        """Return what stands between linear map ``layer`` and its non-linearity, by name."""
        return {}

    def assemble(self, modules: OrderedDict[str, nn.Module]) -> None:
        """Make the network of its modules, by name, and draw its initial weights."""
        init = self.settings.init
        self.network = nn.Sequential(modules)
        initialise(self.network, self.settings.seed, init.name, init.gain, init.std)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the network's output for a batch, in the network's precision."""
        return self.network(inputs.to(self.dtype))

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return what is minimised, a scalar in at least float32."""
        raise NotImplementedError

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Let the random layers draw for this step."""
        self.clock.step = self.trainer.global_step

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Return the minibatch's loss, and the output for whoever records the accuracy."""
        inputs, target = batch
        constant = self.settings.model.statistics == "running"
        with holding_statistics(self, self.clock.step) if constant else nullcontext():
            output = self(inputs)
        return {"loss": self.loss(output, target), "output": output.detach()}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return plain SGD."""
        optim = self.settings.optim
        return torch.optim.SGD(
            self.parameters(),
            lr=optim.lr,
            momentum=optim.momentum,
            weight_decay=optim.weight_decay,
        )


class Classifier(Network):
    """A network that maps images to the logits of their classes; its loss is the cross-entropy."""

    def __init__(self, settings: Settings, classes: int) -> None:
        super().__init__(settings)
        self.classes: int = classes

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the mean cross-entropy, in nats, of logits [N, classes] and labels [N]."""
        wide = torch.promote_types(output.dtype, torch.float32)
        return nn.functional.cross_entropy(output.to(wide), target)
