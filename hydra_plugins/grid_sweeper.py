"""Hydra's way to a grid: its basic sweeper, with every cell checked before the first one trains."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobStatus
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from src.compose import SettingsError, one_line, settings_of
from src.grid import Cell, Grid


class GridSweeper(BasicSweeper):
    """Compose and check all cells, launch those not yet complete, then show them all.

    Args:
        params: The values of each key; the grid is their product.
        grids: Where there are some, the cells are those of several products: ``params`` with one
            of these at a time.
    """

    def __init__(
        self,
        params: dict[str, str] | None = None,
        grids: list[dict[str, str]] | None = None,
    ) -> None:
        super().__init__(max_batch_size=None, params=params)
        self.grids = grids or [{}]

    def sweep(self, arguments: list[str]) -> None:
        """Run the grid.

        Raises:
            SettingsError: If a cell cannot be run, before any is.
            SystemExit: With 1, if a cell failed.
        """
        assert self.config is not None and self.launcher is not None and self.hydra_context
        # A launcher of ours trains cells in processes of their own, Hydra's in this one.
        launcher: Any = self.launcher if hasattr(self.launcher, "train") else None
        if launcher and (problem := launcher.problem()):
            raise SettingsError([problem])
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        grid = Grid(self._cells(points(self.params, self.grids, arguments, parser)))
        console = Console(soft_wrap=True)
        try:
            grid.announce(console, os.environ["BATCHNORM_COMMAND"])
        except OSError as error:
            runs_dir = grid.cells[0].settings.runs_dir
            raise SettingsError([f"runs_dir={runs_dir} cannot be written: {error}"]) from error
        ends: dict[str, str] = {}
        if cells := grid.to_train():
            ends = launcher.train(grid, cells) if launcher else self._train(grid, cells)
        if not grid.report(console, ends):
            raise SystemExit(1)

    def _train(self, grid: Grid, cells: Sequence[Cell]) -> dict[str, str]:
        """Train cells; return, by run, what was raised. Data that cannot be had are sought once."""
        from src.callbacks.progress import ProgressLine  # these import torch
        from src.data.dataset import DataError

        ProgressLine.cells_to_train = len(cells)
        failures: dict[str, str] = {}
        without: dict[tuple[Any, ...], str] = {}
        assert self.launcher is not None
        for number, cell in enumerate(cells):
            data = vars(cell.settings.data)
            sought = tuple(data.get(key) for key in ("name", "root", "download", "cache"))
            if (told := without.get(sought)) is None:
                overrides = [*cell.overrides, *grid.membership]
                (job,) = self.launcher.launch([overrides], initial_job_idx=number)
                if job.status is not JobStatus.FAILED:
                    continue
                error = job._return_value  # asking for return_value would raise it
                told = f"{type(error).__name__}: {error}"
                if type(error) is DataError:  # and not: other data than this run was begun with
                    without[sought] = told
            failures[cell.run] = told
        return failures

    def _cells(self, points: Sequence[Sequence[str]]) -> list[Cell]:
        assert self.config is not None and self.hydra_context is not None
        cells, problems = [], []
        for point in points:
            try:
                loader = self.hydra_context.config_loader
                config: Any = loader.load_sweep_config(self.config, list(point))
                config = OmegaConf.masked_copy(config, [key for key in config if key != "hydra"])
                cells.append(Cell(tuple(point), settings_of(config)))
            except SettingsError as error:
                problems += [f"{' '.join(point)}: {line}" for line in error.lines]
            except (HydraException, OmegaConfBaseException, ValueError) as error:
                problems.append(f"{' '.join(point)}: {one_line(error)}")
        for key in ("runs_dir", "sweep"):
            if len({getattr(cell.settings, key) for cell in cells}) > 1:
                problems.append(f"{key}: a grid has one, give one value")
        if not points:
            problems.append("the grid has no cell: a swept key has no value")
        if problems:
            raise SettingsError(problems)
        return cells


def points(
    params: Mapping[str, str],
    grids: Sequence[Mapping[str, str]],
    arguments: Sequence[str],
    parser: OverridesParser,
) -> list[list[str]]:
    """Return the overrides of each cell, every cell once.

    A key of a grid takes the place of the same key of ``params``, one on the command line of both.
    """
    found: list[list[str]] = []
    for grid in grids:
        given = [f"{key}={values}" for key, values in {**params, **grid}.items()]
        overrides = parser.parse_overrides([*given, *arguments])
        product = BasicSweeper.split_arguments(overrides, max_batch_size=None)[0]
        found += [point for point in product if point not in found]
    return found
