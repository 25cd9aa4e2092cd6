"""Probe a step of a run again: ``python -m src.probe --help``."""

import argparse
import hashlib
import json
import math
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import polars
import rich.table
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from yaml import YAMLError

from src.catalogue import PROBES
from src.compose import SettingsError, one_line, saved_settings
from src.runs.folder import RunFolder, whole
from src.runs.needs import needs
from src.runs.tables import Table
from src.settings import Settings
from src.terminal import reason, uncut

_EPILOG = """\
examples
  python -m src.probe runs/vgg_bn-7e647cad --step 0 ics
  python -m src.probe runs/vgg_bn-7e647cad --step 500 ics landscape probes.precision=float64
  python -m src.probe runs/vgg_bn-7e647cad --step 500 landscape "probes.step_sizes=[0.01,0.1]"

Step 0 needs no checkpoint. For the others train with keep_checkpoints=true: every
checkpoint_every steps one is kept. The step is taken again exactly, in a copy; the run's own
files stay as they are."""
# What may differ from the run: how it is probed, and where the data and the device are.
_CHANGEABLE = ("probes.", "data.root", "data.cache", "data.download", "accelerator", "threads")
_STEP_SIZES = ("step_sizes", "step_sizes_are")


class Refused(Exception):
    """A question that cannot be answered; one line."""


def probe(run: Path, step: int, which: Sequence[str], changes: Sequence[str]) -> Path:
    """Take a step of a run again, probe it, and keep the tables in a folder in the run's.

    Args:
        run: The run's folder.
        step: From 0; the probes see its update.
        which: The probes.
        changes: Settings that differ from the run's, as ``key=value``.

    Returns:
        The folder ``<run>/probed/<step>-<8 hex digits>``, named by step and settings: the tables,
        and ``probes.json`` with what was asked.

    Raises:
        Refused: If there is no such run or step, it cannot be taken, or a probe failed.
    """
    settings = _settings(run, which, changes)
    checkpoint = RunFolder(run).kept_checkpoint(step)
    if step and not checkpoint.exists():
        names = (path.stem for path in checkpoint.parent.glob("*.ckpt"))
        kept = sorted(int(name) for name in names if name.isdecimal())
        there = ", ".join(map(str, [0, *kept]))
        remedy = "" if kept else "; train it with keep_checkpoints=true force=true to keep others"
        raise Refused(f"--step {step}: {run} can be probed at step {there}{remedy}")
    from src.data.dataset import DataError  # these import torch, which takes seconds
    from src.fit import replay

    asked = needs(settings)
    text = json.dumps(asked, indent=1, sort_keys=True) + "\n"
    target = run / "probed" / f"{step}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    with tempfile.TemporaryDirectory() as place:
        folder = RunFolder(Path(place))
        try:
            replay(settings, asked, folder, RunFolder(run.resolve()), step)
        except Exception as error:
            if isinstance(error, DataError | ValueError):
                raise Refused(str(error)) from error
            told = f"step {step} of {run} cannot be taken again: {reason(error)}"
            raise Refused(told) from error
        if failures := (folder.status() or {}).get("probe_failures"):
            raise Refused("; ".join(f"{name} {told}" for name, told in failures.items()))
        try:
            target.mkdir(parents=True, exist_ok=True)
            for name in which:
                with whole(target / f"{name}.parquet") as temporary:
                    temporary.write_bytes((folder.path / f"{name}.parquet").read_bytes())
            with whole(target / "probes.json") as temporary:
                temporary.write_text(text)
        except OSError as error:
            raise Refused(f"{target} cannot be written: {reason(error)}") from error
    return target


def _settings(run: Path, which: Sequence[str], changes: Sequence[str]) -> Settings:
    if not (run / "config.yaml").exists():
        raise Refused(f"{run} is no run: it has no config.yaml")
    for change in changes:
        fixed = change.startswith(("probes.which=", "probes.every="))
        if "=" not in change or not change.startswith(_CHANGEABLE) or fixed:
            allowed = f"a probe ({', '.join(PROBES)}), or key=value with a key of probes,"
            raise Refused(f"{change}: allowed is {allowed} {', '.join(_CHANGEABLE[1:])}")
    if not which:
        raise Refused(f"name at least one probe: {', '.join(PROBES)}")
    chosen = f"probes.which=[{','.join(which)}]"
    try:
        return saved_settings(run / "config.yaml", [*changes, chosen, "probes.every=1"])
    except YAMLError as error:
        told = " ".join(str(error).split())
        raise Refused(f"{' '.join(changes)} or {run / 'config.yaml'}: {told}") from None


def report(run: Path, step: int, found: Path, console: Console) -> None:
    """Print each number beside the one the run itself recorded at that step, where it did.

    Those along other step sizes than the run's stand alone: a step size goes by its place.
    """
    asked = json.loads((found / "probes.json").read_text())
    of_run = (RunFolder(run).status() or {}).get("probes", {})
    shown = rich.table.Table(box=None, pad_edge=False)
    for heading in ("what", "probed", "in the run", "difference"):
        shown.add_column(heading, no_wrap=True)
    for path in sorted(found.glob("*.parquet")):
        table = Table(run, path.stem)
        sizes = [[p.get(path.stem, {}).get(key) for key in _STEP_SIZES] for p in (asked, of_run)]
        probed, before = (
            table.scalars(
                polars.read_parquet(at, glob=False).filter(polars.col("step") == step).rows()
            )
            if at.exists() and (at is path or sizes[0] == sizes[1])
            else {}
            for at in (path, table.path)
        )
        for name, value in probed.items():
            own = before.get(name)
            relative = "" if own is None else f"{_relative(value, own):.1e}"
            shown.add_row(name, f"{value:.7g}", "" if own is None else f"{own:.7g}", relative)
    console.print(uncut(shown), soft_wrap=True)
    told = f"the tables are in {found}"
    console.print(told, highlight=False, markup=False, soft_wrap=True)


def _relative(value: float, own: float) -> float:
    return 0.0 if value == own else abs(value - own) / abs(own) if own else math.inf


def main() -> None:
    """Run the command line; what cannot be done ends it with one line and exit code 2."""
    parser = argparse.ArgumentParser(
        prog="python -m src.probe",
        description="Repeat or add probes at one step of a run, also in another precision.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="a run's folder")
    parser.add_argument("--step", type=int, required=True, help="the step whose update is probed")
    parser.add_argument("what", nargs="+", help=f"probes ({', '.join(PROBES)}) and key=value")
    given = parser.parse_intermixed_args()
    which = [word for word in PROBES if word in given.what]
    changes = [word for word in given.what if word not in PROBES]
    try:
        if given.step < 0:
            raise Refused(f"--step {given.step}: allowed is a whole number of at least 0")
        found = probe(given.run, given.step, which, changes)
    except (Refused, SettingsError) as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
    except OmegaConfBaseException as error:
        print(one_line(error), file=sys.stderr)
        raise SystemExit(2) from None
    report(given.run, given.step, found, Console(soft_wrap=True))


if __name__ == "__main__":
    main()
