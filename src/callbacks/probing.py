"""When a network is probed."""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from src.callbacks.measures import MEASURES, Row, View
from src.probes.evaluation import Batch, penalty
from src.runs.folder import RunFolder
from src.runs.tables import Table
from src.settings import ProbesSettings

_log = logging.getLogger(__name__)
_PRECISIONS = {"32-true": torch.float32, "64-true": torch.float64}


class Probing(pl.Callback):
    """Hook the gradient before an update and the parameters around it, and let the probes look.

    A step is probed once, when the optimiser has taken it, so gradient accumulation makes no
    difference. A probe that raises is told of once and left out from then on, also by a run that is
    resumed; the run goes on.
    """

    def __init__(
        self,
        folder: RunFolder,
        probes: Mapping[str, ProbesSettings],
        fixed: Callable[[int], Sequence[Batch]],
    ) -> None:
        self.folder, self.probes, self.fixed = folder, dict(probes), fixed
        self.tables = {name: Table(folder.path, name) for name in probes}
        self.failures: dict[str, str] = {}
        self._due: list[str] = []
        self._before: dict[str, Tensor] = {}
        self._gradient: dict[str, Tensor] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take up the rows of a run that is resumed."""
        self.folder.update_status(probe_failures=self.failures)
        for table in self.tables.values():
            table.start(trainer.global_step)

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: Any, optimizer: torch.optim.Optimizer
    ) -> None:
        """Keep gradient and parameters if a probe is due at this step."""
        step, last = trainer.global_step, trainer.max_steps - 1
        self._due = [
            name
            for name, chosen in self.probes.items()
            if name not in self.failures and _due(name, chosen.every, step, last)
        ]
        if self._due:
            named = list(pl_module.network.named_parameters())
            self._before = {name: p.detach().clone() for name, p in named}
            self._gradient = {name: p.grad.clone() for name, p in named}

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Probe the step just taken."""
        for name in self._due:
            chosen = self.probes[name]
            try:
                loss = outputs["loss"].detach()
                view = self._view(trainer.global_step - 1, pl_module, chosen, batch, loss)
                rows = MEASURES[name](view, chosen)
            except Exception as error:
                self.failures[name] = f"failed at step {trainer.global_step - 1}: {error}"
                _log.exception("the probe %s %s", name, self.failures[name])
                self.folder.update_status(probe_failures=self.failures)
            else:
                self.tables[name].add(rows)
                self._mirror(trainer, name, rows)
        self._due, self._before, self._gradient = [], {}, {}

    def _mirror(self, trainer: pl.Trainer, name: str, rows: Sequence[Row]) -> None:
        values: dict[str, Any] = self.tables[name].scalars(rows)
        if name == "activations":
            for _, layer, module, site, unit, *_, edges, counts in rows:
                if unit is None and counts is not None:
                    values[f"activations/{layer}/{module}/{site}/histogram"] = (edges, counts)
        for logger in trainer.loggers:
            logger.log_metrics(values, trainer.global_step - 1)

    def write(self) -> None:
        """Write the tables."""
        for table in self.tables.values():
            table.write()

    def state_dict(self) -> dict[str, Any]:
        """Return which probes failed, for the checkpoint."""
        return {"failures": self.failures}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it back from the checkpoint."""
        self.failures = state_dict["failures"]

    def _view(
        self, step: int, module: Any, chosen: ProbesSettings, batch: Batch, loss: Tensor
    ) -> View:
        precision = getattr(torch, chosen.precision)
        fixed = partial(self.fixed, chosen.fixed_batches)
        after = {name: p.detach().to(precision) for name, p in module.network.named_parameters()}
        optim = module.settings.optim
        weight_decay, gradient = 0.0, self._gradient
        if chosen.objective == "penalised" and optim.weight_decay:
            weight_decay = optim.weight_decay
            gradient = {n: g + weight_decay * self._before[n] for n, g in gradient.items()}
            loss = loss + penalty(self._before, weight_decay)
        return View(
            step=step,
            network=module.network,
            loss_fn=module.loss,
            batch=batch if chosen.batch == "training" else fixed()[0],
            before={name: value.to(precision) for name, value in self._before.items()},
            after=after,
            loss=loss,
            gradient=gradient,
            lr=optim.lr,
            weight_decay=weight_decay,
            seed=module.settings.seed,
            fixed=fixed,
            exact=chosen.batch == "training"
            and _PRECISIONS.get(module.settings.precision) == precision,
        )


class ProbingAgain(Probing):
    """The same for a step that is taken again; its state is its own.

    Lightning keeps a callback's state by its class, so a probe that failed in the run is tried.
    """


def _due(name: str, every: int, step: int, last: int) -> bool:
    """Tell whether a probe looks at a step; activations are looked at in pairs of steps."""
    offset = step % every
    return offset == 0 or step == last or (name == "activations" and offset == 1)
