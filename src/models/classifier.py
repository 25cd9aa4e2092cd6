"""What every image classifier here shares: the loss, the optimiser, the moment of its draws."""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from src.models.moment import Moment
from src.models.norms import hold_statistics
from src.settings import Settings


class Classifier(pl.LightningModule):
    """A ``network`` of named layers trained by SGD on the cross-entropy (nats)."""

    network: nn.Sequential

    def __init__(self, settings: Settings, classes: int) -> None:
        super().__init__()
        self.settings, self.classes = settings, classes
        self.moment = Moment(settings.seed)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, [N, classes], of normalised images, [N, 3, 32, 32]."""
        return self.network(images.to(self.dtype))

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean cross-entropy, in at least float32."""
        wide = torch.promote_types(logits.dtype, torch.float32)
        return nn.functional.cross_entropy(logits.to(wide), labels)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Let the random layers draw for this step."""
        self.moment.step = self.trainer.global_step

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Return the minibatch's loss, and its logits for whoever records the accuracy."""
        images, labels = batch
        if self.settings.model.statistics == "running":
            hold_statistics(self, images)
        logits = self(images)
        return {"loss": self.loss(logits, labels), "logits": logits.detach()}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return plain SGD."""
        optim = self.settings.optim
        return torch.optim.SGD(
            self.parameters(),
            lr=optim.lr,
            momentum=optim.momentum,
            weight_decay=optim.weight_decay,
        )
