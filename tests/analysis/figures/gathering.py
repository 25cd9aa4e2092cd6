"""What a figure draws of runs made by hand."""

from pathlib import Path

from src.analysis.figures import FIGURES, Source
from src.analysis.figures.figure import Gathered
from src.runs.reading import read_runs

BY_NAME = {figure.name: figure for figure in FIGURES}
KEYS = {"run": "a", "variant": "vgg", "lr": 0.1}


def gathered(root: Path, name: str) -> Gathered:
    found = BY_NAME[name].gathered(Source(root, read_runs(root)))
    assert found is not None
    return found
