"""The norms of gradient, update and parameters, nearly free."""

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from src.probes.layers import default_layers
from src.runs.folder import RunFolder
from src.runs.tables import Table


class Norms(pl.Callback):
    """Keep the three norms of each parameter at every step that is recorded."""

    def __init__(self, folder: RunFolder, every: int) -> None:
        self.table, self.every = Table(folder.path, "norms"), every
        self._before: list[Tensor] = []
        self._norms: Sequence[Tensor] = ()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take up the rows of a run that is resumed."""
        self.table.start(trainer.global_step)

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: Any, optimizer: torch.optim.Optimizer
    ) -> None:
        """Keep the parameters and the norms of what the optimiser is given."""
        step = trainer.global_step
        if step % self.every == 0 or step == trainer.max_steps - 1:
            parameters = list(pl_module.network.parameters())
            self._before = [p.detach().clone() for p in parameters]
            self._norms = torch._foreach_norm([p.grad for p in parameters])

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add a row a parameter."""
        if not self._before:
            return
        network = pl_module.network
        layer_of = {n: i for i, ns in enumerate(default_layers(network), start=1) for n in ns}
        after = [p.detach() for p in network.parameters()]
        updates = torch._foreach_norm(torch._foreach_sub(after, self._before))
        weights = torch._foreach_norm(self._before)
        columns = [torch.stack(list(norms)) for norms in (self._norms, updates, weights)]
        values = torch.stack(columns, dim=1).tolist()
        names = [name for name, _ in network.named_parameters()]
        step = trainer.global_step - 1
        rows = [
            (step, layer_of.get(name), name, *row) for name, row in zip(names, values, strict=True)
        ]
        self.table.add(rows)
        for logger in trainer.loggers:
            logger.log_metrics(self.table.scalars(rows), step)
        self._before = []

    def write(self) -> None:
        """Write the table."""
        self.table.write()
