"""Upload to W&B what is not there yet: ``python -m src.sync runs``."""

import argparse
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from src.runs.store import RunStore
from src.terminal import reason

_BLOCK = 32768
_FULL, _FIRST, _MIDDLE, _LAST = range(1, 5)


def main(arguments: Sequence[str] | None = None) -> None:
    """Upload, show a table; exit code 1 if some of it failed, 2 if there is no such folder."""
    parser = argparse.ArgumentParser(
        prog="python -m src.sync",
        description="Upload to W&B the runs that were logged offline or did not get there whole.",
        epilog="What has been uploaded is marked and left out from then on; so is a run that is "
        "being trained. You must be logged in (wandb login).",
    )
    parser.add_argument("folder", type=Path, help="a runs folder, or that of a report")
    parser.add_argument("--jobs", type=int, default=8, help="how many at once; default: 8")
    chosen = parser.parse_args(arguments)
    if not chosen.folder.is_dir():
        print(f"{chosen.folder} is not a folder", file=sys.stderr)
        raise SystemExit(2)
    if chosen.jobs < 1:
        print(f"--jobs {chosen.jobs}: allowed is a whole number from 1", file=sys.stderr)
        raise SystemExit(2)
    os.environ.pop("WANDB_MODE", None)  # who asks for an upload wants to be online
    place = Path(os.path.abspath(chosen.folder))  # a link's lease lies beside the link
    found = waiting(place)
    busy = {folder for folder in found if _is_trained(folder)}
    ready = [folder for folder in found if folder not in busy]
    if ready:
        _check_login()
        # Several files of one run it uploads one after the other, the oldest first.
        command = [sys.executable, "-m", "wandb", "sync", "--include-online", f"-n{chosen.jobs}"]
        files = [file for folder in ready for file in found[folder]]
        for file in files:
            cut(file)
        # It shows how far it is, and what it cannot upload.
        subprocess.run([*command, *map(str, files)], stdin=subprocess.DEVNULL)
    left = waiting(place)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("run", "upload"):
        table.add_column(heading)
    for folder in found:
        state = "failed" if folder in left else "done"
        table.add_row(folder.name, "left alone: it is being trained" if folder in busy else state)
    Console(soft_wrap=True).print(table if found else "nothing to upload")
    if failed := left.keys() - busy:
        print(
            f"{len(failed)} of {len(ready)} failed: the same command tries again", file=sys.stderr
        )
        raise SystemExit(1)


def waiting(root: Path) -> dict[Path, list[Path]]:
    """Return W&B's files that it does not have whole, by the run's folder."""
    found = defaultdict[Path, list[Path]](list)
    for file in sorted(root.glob("**/wandb/*run-*/run-*.wandb")):
        if not file.with_suffix(".wandb.synced").exists():
            found[file.parents[2]].append(file)
    return found


def _is_trained(folder: Path) -> bool:
    beside = folder.parent.name == ".again"
    writer = RunStore(folder.parents[1] if beside else folder.parent).writer(folder.name)
    return writer is not None and not writer.dead


def cut(file: Path) -> None:
    """Cut off the record that a killed process left half-written: else the run has no end at W&B.

    What is not of W&B's form is left as it is.
    """
    content = file.read_bytes()
    try:
        end = max((end for _, end in records(content)), default=len(content))
    except ValueError:
        return
    if end < len(content):
        os.truncate(file, end)


def records(content: bytes) -> Iterator[tuple[bytes, int]]:
    """Yield each whole record of one of W&B's files, and where it ends.

    The file is LevelDB's log after a header of seven bytes: in blocks of 32 KB, fragments of
    records, each with its checksum, length and kind.

    Raises:
        ValueError: It is not of that form.
    """
    place = header = 7
    record = b""
    while place + header <= len(content):
        if (left := _BLOCK - place % _BLOCK) < header:
            place += left
            continue
        length, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        if kind not in (_FULL, _FIRST, _MIDDLE, _LAST) or length > left - header:
            raise ValueError(f"no fragment of a record at byte {place}")
        record += content[place + header : place + header + length]
        place += header + length
        if kind in (_FULL, _LAST) and place <= len(content):
            yield record, place
            record = b""


def _check_login() -> None:
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    os.environ.setdefault("WANDB_HTTP_TIMEOUT", "10")
    import wandb

    try:
        wandb.setup(wandb.Settings(silent=True))
        found = wandb.login(prompt=False, verify=True)
        problem = "" if found else "nobody is logged in: wandb login"
    except Exception as error:
        problem = reason(error)
    if problem:
        print(f"nothing can be uploaded: {problem}", file=sys.stderr)
        raise SystemExit(1)
    wandb.teardown()


if __name__ == "__main__":
    main()
