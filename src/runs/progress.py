"""How far the run of a cell is, told from its folder by whoever asks, on whatever host."""

from dataclasses import dataclass
from typing import Any

from src.runs.needs import Needs
from src.runs.store import RunStore

STATES = ("completed", "diverged", "running", "queued", "stopped", "stale", "failed", "missing")


@dataclass(frozen=True)
class Progress:
    """Where a cell stands.

    Attributes:
        run: Its run.
        state: One of ``STATES``. ``stopped`` by a signal, in good order; ``stale``: begun, but no
            process writes it. An ended run that lacks what is asked for is ``missing``.
        step: Steps taken, or of a diverged run the step that was not finite; None before the first
            attempt.
        max_steps: Of how many.
        seconds_left: At the pace so far; None where it is not running.
        message: What is to be said of it, in one line.
    """

    run: str
    state: str
    step: int | None = None
    max_steps: int | None = None
    seconds_left: float | None = None
    message: str | None = None


def progress(store: RunStore, run: str, wanted: Needs, forced: bool = False) -> Progress:
    """Return where a cell stands that asks a run for some probes.

    Where it has ended and is ``forced`` to be trained again, that attempt counts, until it ends.
    """
    ended, latest, writer = store.folder(run), store.attempt(run), store.writer(run)
    alive = writer is not None and not writer.dead
    done = ended.serves(wanted) and (latest.path == ended.path or not forced)
    status = (ended if done and not alive else latest).status() or {}
    step, max_steps = status.get("step"), status.get("max_steps")

    def at(state: str, message: str | None, seconds_left: float | None = None) -> Progress:
        return Progress(run, state, step, max_steps, seconds_left, message)

    if writer and alive:
        return at("running", f"by process {writer.pid} on {writer.host}", _seconds_left(status))
    if done:
        failed = [f"probe {p} {told}" for p, told in status.get("probe_failures", {}).items()]
        told = "; ".join(filter(None, [status.get("message"), *failed]))
        return at(status["state"], told.partition("\n")[0] or None)
    told = status.get("message") or ""
    match status.get("state"):
        case "failed":
            return at("failed", told.partition("\n")[0])
        case "running" if told:
            return at("stopped", told)
        case "running":
            host = status.get("machine", {}).get("host", "unknown")
            return at("stale", f"was being trained on {host}, but nobody writes")
        case None:
            return Progress(run, "missing")
    return at(
        "missing", f"has ended, but lacks what is asked for: {', '.join(ended.lacks(wanted))}"
    )


def _seconds_left(status: dict[str, Any]) -> float | None:
    if not status.get("step") or status.get("attempt_began") is None:
        return None
    spent = status["seconds"] + max(status["updated"] - status["attempt_began"], 0.0)
    return spent / status["step"] * (status["max_steps"] - status["step"])
