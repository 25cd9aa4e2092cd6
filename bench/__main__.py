"""What a run costs, as ratios measured side by side in one process: ``make bench``.

Competitors take turns, each turn is warmed up, and a figure is the median of its turns' ratios.
"""

import json
import os
import platform
import statistics
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table

from bench import training
from bench.probes import Probed
from bench.training import ROOT, settings
from src.memory import keep_freed_memory

TURNS = 5
Row = tuple[str, float, str, float | None]


def alternate(*competitors: Callable[[], float], turns: int = TURNS) -> list[list[float]]:
    """Let competitors take turns; return each one's figures, turn by turn."""
    figures = [[competitor() for competitor in competitors] for _ in range(turns)]
    return [list(column) for column in zip(*figures, strict=True)]


def ratio(over: list[float], under: list[float]) -> float:
    """Return the median of the turns' ratios: what disturbs a whole turn cancels."""
    return statistics.median(a / b for a, b in zip(over, under, strict=True))


def steps() -> list[Row]:
    """Compare training steps, and what hands them their batches."""
    plain, bn, noisy = (settings(f"model={name}") for name in ("vgg", "vgg_bn", "vgg_noisy"))
    if training.under_lightning(bn)[1] != training.by_hand(bn)[1]:
        raise RuntimeError("Lightning and the loop by hand differ in their losses")
    lightning, hand = alternate(
        lambda: training.under_lightning(bn)[0], lambda: training.by_hand(bn)[0]
    )
    times = alternate(*(lambda s=s: training.by_hand(s)[0] for s in (plain, bn, noisy)))
    ours, pil = alternate(lambda: training.our_loader(bn), lambda: training.pil_loader(bn))
    medians = [1000 * statistics.median(part) for part in (*times, ours)]
    return [
        ("Lightning step / loop by hand", ratio(lightning, hand), "", 1.05),
        ("noisy BatchNorm step / BatchNorm step", ratio(times[2], times[1]), "", 1.5),
        ("our loader / BatchNorm step", medians[3] / medians[1], "", 0.02),
        ("torchvision and DataLoader / our loader", ratio(pil, ours), "", None),
        ("standard step", medians[0], "ms", None),
        ("BatchNorm step", medians[1], "ms", None),
        ("noisy BatchNorm step", medians[2], "ms", None),
        ("our loader, a batch", medians[3], "ms", None),
    ]


def probes() -> list[Row]:
    """Compare probes with training steps of the same network, VGG-16 with BatchNorm."""
    network = Probed(settings("model=vgg_bn"))
    sizes = network.settings.probes.step_sizes
    step, shift, landscape, both, distributions = alternate(
        network.step,
        lambda: network.probe("ics"),
        lambda: network.probe("landscape"),
        lambda: network.probe("landscape", ["euclidean", "relative"]),
        lambda: network.probe("activations"),
        turns=4 * TURNS,
    )
    # Activations are looked at twice: at the step and at the next.
    paper = [s + o + 2 * d for s, o, d in zip(shift, landscape, distributions, strict=True)]
    pairs = [2 * d for d in distributions]
    points = len(sizes) + 1
    return [
        ("shift, a layer / step", ratio(shift, step) / network.layers, "", 0.42),
        ("landscape / (step sizes + 1) steps", ratio(landscape, step) / points, "", 1.05),
        ("landscape with the relative metric / without", ratio(both, landscape), "", None),
        ("probes=paper every 100 steps / training", ratio(paper, step) / 100, "", 0.15),
        ("activations / training", ratio(pairs, step) / 100, "", 0.02),
    ]


def commands() -> list[Row]:
    """Start the real command."""
    source = [] if "CIFAR10_ROOT" in os.environ else ["data=digits"]
    noisy = ["model=vgg_noisy", "noise.passes=1", *source]
    starts = [training.first_step(*noisy) for _ in range(3)]
    without, with_probes = (
        training.peak_memory("model=vgg_bn", "logger=none", *source, probes)
        for probes in ("probes=none", "probes=paper")
    )
    side_by_side, in_turn = alternate(
        lambda: training.two_cells("local"), lambda: training.two_cells("basic"), turns=3
    )
    refusals = [training.refusal() for _ in range(5)]
    network = Probed(settings("model=vgg_bn"))
    allowed = 3 * network.parameters + network.activations
    return [
        ("command to first step", statistics.median(starts), "s", 10),
        ("two cells side by side / in turn", ratio(side_by_side, in_turn), "", 1),
        ("a wrong setting refused", statistics.median(refusals), "s", 1),
        ("peak memory of a small noisy run", training.peak_memory(*noisy), "GiB", 1.5),
        ("extra peak memory of probes=paper", with_probes - without, "GiB", allowed),
    ]


def main() -> None:
    """Measure, print the table, write ``bench.json``."""
    keep_freed_memory()  # as training does
    rows = [*steps(), *probes(), *commands()]
    table = Table("what", "measured", "at most", box=None, pad_edge=False)
    for name, value, unit, limit in rows:
        over = limit is not None and value > limit
        measured = f"{value:.3g} {unit}"
        most = "" if limit is None else f"{limit:.3g}"
        table.add_row(name, f"[red]{measured}[/]" if over else measured, most)
    Console().print(table)
    machine = {
        "platform": platform.platform(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "data": "cifar10" if "CIFAR10_ROOT" in os.environ else "digits",
    }
    figures = {
        name: {"value": value, "unit": unit, "at_most": limit} for name, value, unit, limit in rows
    }
    (ROOT / "bench.json").write_text(json.dumps({"machine": machine, "figures": figures}, indent=1))


if __name__ == "__main__":
    main()
