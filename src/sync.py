"""Upload to W&B what is not there yet: ``python -m src.sync runs``."""

import argparse
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from rich.console import Console
from rich.table import Table

from src.runs.store import RunStore


def main(arguments: Sequence[str] | None = None) -> None:
    """Upload, show a table; exit code 1 if some of it failed, 2 if there is no such folder."""
    parser = argparse.ArgumentParser(
        prog="python -m src.sync",
        description="Upload to W&B the runs that were logged offline or did not get there whole.",
        epilog="What has been uploaded is marked and skipped from then on, and so is a run that is "
        "being trained. You must be logged in (wandb login).",
    )
    parser.add_argument("folder", type=Path, help="a runs folder, or that of a report")
    parser.add_argument("--jobs", type=int, default=8, help="how many at once; default: 8")
    chosen = parser.parse_args(arguments)
    if not chosen.folder.is_dir():
        print(f"{chosen.folder} is not a folder", file=sys.stderr)
        raise SystemExit(2)
    waiting, busy = pending(chosen.folder)
    console = Console(soft_wrap=True, highlight=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("run", "parts", "upload"):
        table.add_column(heading, justify="right" if heading == "parts" else "left")
    failed = 0
    with ThreadPoolExecutor(chosen.jobs) as pool:
        jobs = {pool.submit(uploaded, files): folder for folder, files in waiting.items()}
        for number, job in enumerate(as_completed(jobs), start=1):
            folder, problem = jobs[job], job.result()
            failed += problem is not None
            console.print(f"{number} of {len(jobs)}: {folder.name} {problem or 'uploaded'}")
            table.add_row(folder.name, str(len(waiting[folder])), problem or "done")
    for folder in busy:
        table.add_row(folder.name, "", "is being trained: left alone")
    console.print(table if table.row_count else "nothing to upload")
    if failed:
        print(f"{failed} of {len(jobs)} runs failed; the same command tries again", file=sys.stderr)
        raise SystemExit(1)


def pending(root: Path) -> tuple[dict[Path, list[Path]], list[Path]]:
    """Return W&B's files that are not uploaded, oldest first, by folder; and who is being trained.

    Args:
        root: A runs folder, or the folder of one report.
    """
    found = defaultdict[Path, list[Path]](list)
    for file in sorted(root.glob("**/wandb/*run-*/run-*.wandb")):
        if not file.with_suffix(".wandb.synced").exists():
            found[file.parents[2]].append(file)
    store = RunStore(root)
    writers = {folder: store.writer(folder.name) for folder in found}
    busy = [folder for folder, writer in writers.items() if writer and not writer.dead]
    return {folder: files for folder, files in found.items() if folder not in busy}, busy


def uploaded(files: Sequence[Path]) -> str | None:
    """Upload files one after the other, as ``wandb sync`` does; return what went wrong, if any."""
    for file in files:
        command = [sys.executable, "-m", "wandb", "sync", "--include-online", str(file)]
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if not file.with_suffix(".wandb.synced").exists():
            told = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
            return told[-1] if told else f"wandb sync ended with exit code {done.returncode}"
    return None


if __name__ == "__main__":
    main()
