"""The files in ``sweeps/wandb/``: W&B accepts them, and its agents train the sweeps' own cells."""

import json
from importlib.metadata import PackageNotFoundError, distribution
from itertools import product
from pathlib import Path

import jsonschema
import pytest
import yaml
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

from src.runs.identity import run_name
from src.runs.needs import needs
from tests.test_sweeps import ROOT, cells

FILES = sorted((ROOT / "sweeps" / "wandb").glob("*.yaml"))
SWEEPS = ("init_sensitivity", "lr_sensitivity", "noise_sensitivity")


def _read(path: Path) -> dict:
    return yaml.safe_load(path.read_text())


def _commands(path: Path) -> list[list[str]]:
    """What an agent runs for each cell: the client's own reading of the command."""
    given = _read(path)
    choices = [spec.get("values", [spec.get("value")]) for spec in given["parameters"].values()]
    found = []
    for values in product(*choices):
        named = zip(given["parameters"], values, strict=True)
        args = create_sweep_command_args({"args": {k: {"value": v} for k, v in named}})
        tokens = create_sweep_command([*given["command"]])
        known = {f"${{{name}}}": value for name, value in args.items()}
        known |= {"${env}": ["/usr/bin/env"], "${interpreter}": ["python"]}
        found.append([word for token in tokens for word in known.get(token, [token])])
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_wandb_accepts_it(path):
    given = _read(path)
    assert given.keys() == {"program", "command", "method", "parameters"}
    assert given["method"] == "grid" and (ROOT / given["program"]).exists()
    for spec in given["parameters"].values():
        assert spec.keys() in ({"value"}, {"values"})
    commands = _commands(path)
    assert {tuple(c[:4]) for c in commands} == {("/usr/bin/env", "python", "-m", "src.train")}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_follows_wandbs_schema(path):
    try:
        schema = distribution("sweeps").locate_file("sweeps/config/schema.json")
    except PackageNotFoundError:
        pytest.skip("W&B's package sweeps has it: pip install --no-deps -r .ci/schema.txt")
    validator = jsonschema.Draft7Validator(json.loads(Path(str(schema)).read_text()))
    assert [error.message for error in validator.iter_errors(_read(path))] == []


@pytest.mark.parametrize("sweep", SWEEPS)
def test_the_cells_are_those_of_the_sweep(settings, sweep):
    def runs(points):
        chosen = [settings(*point) for point in points]
        return sorted((run_name(s), json.dumps(needs(s))) for s in chosen)

    ours = runs(cells(sweep, "seed=0,1,2,3,4"))
    agents = [c[4:] for path in FILES if path.stem.startswith(sweep) for c in _commands(path)]
    assert runs(agents) == ours
    assert {word for words in agents for word in words if word.startswith("sweep=")} == {
        f"sweep={sweep}"
    }
