"""Train one run or a grid of runs: ``python -m src.train --help``."""

import logging
import os
import shlex
import sys
import traceback

import hydra
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from src.cell import cell
from src.compose import ROOT, SettingsError, one_line, screened


class _OneLine(logging.Formatter):
    """For a person: what happened, without the traceback, which the run's log has."""

    def format(self, record: logging.LogRecord) -> str:
        return record.getMessage()


def main() -> None:
    """Run the command line; a wrong setting ends it with one line a cell and exit code 2."""
    if refused := screened(sys.argv[1:]):
        print(*refused, sep="\n", file=sys.stderr)
        raise SystemExit(2)
    os.environ["BATCHNORM_ROOT"] = str(ROOT)
    # A process that trains one cell of a grid inherits the command of the grid.
    os.environ.setdefault(
        "BATCHNORM_COMMAND", shlex.join(["python", "-m", "src.train", *sys.argv[1:]])
    )
    debugging = os.environ.setdefault("HYDRA_FULL_ERROR", "0") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands its errors to us
    # OpenMP's idle threads spin for milliseconds, on a core that the noise's threads could use.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    if not debugging:
        for handler in logging.getLogger().handlers:
            handler.setFormatter(_OneLine())
    try:
        hydra.main(version_base="1.3", config_path=str(ROOT / "conf"), config_name="train")(cell)()
    except (SettingsError, HydraException, OmegaConfBaseException, ValueError) as error:
        # A ValueError of Hydra's comes before its sweeper; from the sweeper on it would be our bug.
        frames = [frame.f_code.co_name for frame, _ in traceback.walk_tb(error.__traceback__)]
        if debugging or (isinstance(error, ValueError) and "sweep" in frames):
            raise
        lines = error.lines if isinstance(error, SettingsError) else [one_line(error)]
        print(*lines, sep="\n", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
