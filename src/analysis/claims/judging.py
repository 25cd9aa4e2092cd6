"""From a rule and the runs to a result."""

import importlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from src.analysis.claims.cells import Cells, Run, Tables, ended, pool, readings, text, told
from src.analysis.claims.registry import CLAIMS
from src.analysis.claims.result import Component, Reading, Result, Verdict
from src.analysis.claims.rulebook import Rule, rules
from src.analysis.claims.verdict import Finding, concluded
from src.analysis.statistics import holm
from src.runs.reading import Runs

FAMILIES = (
    "training",
    "rates",
    "regularisation",
    "noise",
    "shift",
    "landscape",
    "confounds",
    "norms",
    "theory",
)
for _family in FAMILIES:
    importlib.import_module(f"src.analysis.claims.{_family}")


def judge(root: Path, runs: Runs) -> list[Result]:
    """Judge every claim, in the order of the rules, at the largest scale it has a seed of.

    Args:
        root: The runs folder.
        runs: What it holds; its problems take a line for each damaged table.
    """
    tables = Tables(root, runs.problems)
    there = ended(runs, tables)
    results = [_judged(rule, runs, there) for rule in rules().claims.values()]
    return list(_corrected(results))


@dataclass(frozen=True)
class _Judged:
    """A claim under one reading."""

    cells: Cells
    finding: Finding
    verdict: Verdict
    shown: Component | None


def _judged(rule: Rule, runs: Runs, there: Mapping[str, Run]) -> Result:
    found, note = pool(rule, runs, there)
    scales = [s for s in rules().scales if any(run.config["scale"] == s for run in found)]
    chosen, under = None, list[_Judged]()
    for candidate in reversed(scales):
        under = [_under(rule, cells) for cells in readings(rule, found, candidate)]
        chosen = candidate
        if any(judged.shown for judged in under):
            break
    notes = [note]
    if others := [s for s in scales if s != chosen]:
        notes.append(f"there are runs at scale {', '.join(others)} too")
    return _result(rule, chosen, under, notes)


def _under(rule: Rule, cells: Cells) -> _Judged:
    finding = CLAIMS[rule.id](cells, **rule.at(cells.scale))
    return _Judged(cells, finding, *concluded(finding))


def _result(rule: Rule, scale: str | None, under: Sequence[_Judged], notes: list[str]) -> Result:
    main = next((judged for judged in under if judged.shown), under[0] if under else None)
    shown = main.shown if main else None
    if main and shown:
        notes += ["no seed tells by the main reading"] if main is not under[0] else []
        notes += [main.finding.note, *_absent(main.finding), *_departures(main.cells, rule)]
    elif main:
        notes.append("no seed has all that the rule asks for, on one kind of machine")
    used = main.cells.used.values() if main and shown else ()
    return Result(
        id=rule.id,
        family=CLAIMS[rule.id].__module__.rpartition(".")[2],
        sentence=rule.sentence,
        source=rule.source,
        sweep=rule.sweep,
        scale=scale,
        quantity=rule.quantity,
        rule=rule.rule,
        settings=rule.at(scale) if scale else {},
        confirmatory=rule.confirmatory,
        paper=rule.paper,
        verdict=main.verdict if main else "not run",
        effect=shown.effect if shown else None,
        effect_label=shown.told if shown else "",
        interval=shown.interval if shown else None,
        bound=shown.bound if shown else None,
        seeds=shown.seeds if shown else 0,
        values=shown.values if shown else {},
        p=shown.p if shown else None,
        p_holm=None,
        diverged=main.cells.diverged() if main else {},
        whole=main.finding.whole if main else None,
        components=main.finding.components if main else [],
        readings=_named([judged for judged in under if judged.shown]),
        note="; ".join(filter(None, notes)),
        would_change=rule.would_change,
        figure=rule.figure,
        runs=len(used),
        older_than_rule=sum(_older(run, rule) for run in used),
    )


def _named(under: Sequence[_Judged]) -> list[Reading]:
    """Return the readings, each named by what differs between them."""
    labels = [dict(judged.cells.reading) | dict(judged.cells.measured) for judged in under]
    keys = dict.fromkeys(key for label in labels for key in label)
    varied = [key for key in keys if len({label.get(key) for label in labels}) > 1]
    return [
        Reading(
            reading=", ".join(f"{k}={label[k]}" for k in varied if k in label) or "the only one",
            label=judged.shown.label,
            verdict=judged.verdict,
            effect=judged.shown.effect,
            interval=judged.shown.interval,
            bound=judged.shown.bound,
            seeds=judged.shown.seeds,
            whole=judged.finding.whole,
            components=judged.finding.components,
        )
        for judged, label in zip(under, labels, strict=True)
        if judged.shown
    ]


def _absent(finding: Finding) -> Iterator[str]:
    """Say which parts could not be judged."""
    for part in finding.components:
        if part.verdict == "not run":
            why = "no pair got far enough" if part.seeds else "no seed tells"
            yield ": ".join(filter(None, (part.label, why)))


def _departures(cells: Cells, rule: Rule) -> Iterator[str]:
    """Say where the runs judged are not as by default, moved, or were not measured to the end."""
    failed = [
        run.name for run in cells.used.values() if run.config.get(f"probe_failures.{rule.table}")
    ]
    if failed:
        yield f"{rule.table} failed on the way, and was measured until then: {', '.join(failed)}"
    if moved := [run.name for run in cells.used.values() if run.config.get("moved")]:
        yield f"begun in another place (device, CPU, threads or torch): {', '.join(moved)}"
    for key in sorted(rule.defaults.keys() - set(rule.axes)):
        found = {told(run, rule, [key])[key] for run in cells.used.values()}
        if others := found - {None, text(rule.defaults[key])}:
            yield f"{key}={', '.join(sorted(filter(None, others)))}"


def _older(run: Run, rule: Rule) -> bool:
    """Tell whether a run began before the rule was fixed, or cannot show that it did not."""
    started = run.config.get("started")
    return started is None or started < rule.fixed


def _corrected(results: Iterable[Result]) -> Iterator[Result]:
    """Correct the confirmatory claims for their number; what does not survive is inconclusive.

    Only what a p speaks for takes part.
    """
    results = list(results)
    told = ("supported", "contradicted", "mixed")
    adjusted = holm({r.id: r.p if r.verdict in told else None for r in results if r.confirmatory})
    for result in results:
        p = adjusted.get(result.id)
        if p is None or p < 1 - rules().level:
            yield replace(result, p_holm=p)
            continue
        note = f"{result.verdict} by itself, but not after Holm's correction"
        main = replace(result.readings[0], verdict="inconclusive")
        yield replace(
            result,
            p_holm=p,
            verdict="inconclusive",
            readings=[main, *result.readings[1:]],
            note="; ".join(filter(None, (result.note, note))),
        )
