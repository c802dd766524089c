"""CLAIMS.md: every claim with its rule, its arms and what came out of them."""

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medjax.io.atomic import atomic
from medjax.metrics.statistics import Interval
from medjax.train.claims import Claim, Outcome, Record, arms_together, finished, judge, read_records
from medjax.train.claims_curve import curve_svg

INTRODUCTION = """\
# Claims

Written by `--mode claims` from the records in `experiments/claims/results`; not to be edited. What
decides was fixed in `experiments/claims/claims.yaml` before the first run.
"""


def summary(claims: Mapping[str, Claim], judged: Mapping[str, Sequence[Outcome]]) -> str:
    """One line a claim, as a markdown table."""
    rows = [("claim", "effect reported", "effect measured here [interval]", "verdict")]
    for name, claim in claims.items():
        found = next(o for o in judged[name] if o.arm == claim.decides)
        reported = f"{claim.target:+g} {claim.metric} {', '.join(claim.structures)}"
        if claim.full:
            reported = f"{claim.ratio:g} of {claim.full}, {claim.closed:g} of the gap closed"
        rows.append((claim.claim, reported, _effect(found.effect), found.verdict or ""))
    return _table(rows)


def page(
    claims: Mapping[str, Claim],
    records: Mapping[str, Sequence[Record]],
    judged: Mapping[str, Sequence[Outcome]],
    pictures: Mapping[str, str],
    unfinished: Mapping[str, Sequence[int]],
) -> str:
    """CLAIMS.md: the summary, then each claim with its arms and the picture of its curve, where it is.

    `unfinished`: seeds of each claim that are left out. The same records give the same text.
    """
    parts = [INTRODUCTION, summary(claims, judged)]
    for name, claim in claims.items():
        facts = _facts(claim, records[name], unfinished[name])
        parts += [f"## {name}\n", "".join(f"- {line}\n" for line in facts)]
        shares = (f"of {claim.full}", "gap closed") if claim.full else ()
        head = ("arm", "trains on", "seeds", "patients", "mean", "effect [interval]")
        rows: list[tuple[str, ...]] = [(*head, *shares, "verdict")]
        for o in judged[name]:
            own = tuple(map(_share, (o.ratio, o.closed))) if claim.full else ()
            found = (_share(o.mean), _effect(o.effect), *own, o.verdict or "")
            rows.append((o.arm, claim.arms[o.arm], str(o.seeds), str(o.patients), *found))
        parts.append(_table(rows))
        if name in pictures:
            parts.append(f"![{claim.metric} along {claim.along}]({pictures[name]})\n")
        if not claim.records or claim.arms.keys() - claims[claim.records].arms.keys():
            parts += _figures(claim, records[name])
    return "\n".join(parts)


def _figures(claim: Claim, records: Sequence[Record]) -> list[str]:
    """The means over runs of what belongs to all test cases at once, as a table."""
    names = list(dict.fromkeys(name for record in records for name in record.figures))
    rows: list[tuple[str, ...]] = [("arm", *names)]
    for arm in claim.arms:
        own = [record.figures for record in records if record.arm == arm]
        known = [[v for f in own if (v := f.get(name)) is not None] for name in names]
        rows.append((arm, *("" if not v else f"{np.mean(v):.3f}" for v in known)))
    return ["Means over runs, which nothing is decided by:\n", _table(rows)] if names else []


def write_page(path: Path, claims: Mapping[str, Claim], results: Path) -> None:
    """Writes CLAIMS.md, and the curve of a claim as `results/CLAIM.svg`, from `results/CLAIM/*.json`.

    Each file whole or not at all.
    """
    records, judged, pictures, unfinished = {}, {}, {}, {}
    for name, claim in claims.items():
        runs = claim.records or name
        others = arms_together(claims, runs).keys() - claim.arms.keys()
        found = [r for r in read_records(results / runs) if r.arm not in others]
        records[name], unfinished[name] = finished(claim, found)
        judged[name] = judge(claim, records[name])
        drawn = curve_svg(claim, judged[name])
        if drawn:
            picture = results / f"{name}.svg"
            pictures[name] = Path(os.path.relpath(picture, path.parent)).as_posix()
            _write(picture, drawn)
    _write(path, page(claims, records, judged, pictures, unfinished))


def _write(path: Path, text: str) -> None:
    with atomic(path) as temporary:
        temporary.write_text(text, "utf-8")


def _facts(claim: Claim, records: Sequence[Record], unfinished: Sequence[int]) -> Iterator[str]:
    yield f"Claim: {claim.claim}"
    yield f"Source: {claim.source}"
    yield f"Rule: {claim.rule}"
    yield f"Command: `{claim.command}`"
    if unfinished:
        yield f"Left out until all arms have them: seeds {_listed(unfinished)}"
    if not records:
        if not unfinished:
            yield "No run yet."
        return
    data, stages = records[0].data, {s["run"]: s["seconds"] for r in records for s in r.stages}
    yield f"Data: {data['name']}, {data['cases']} cases; {records[0].steps} optimiser steps in each arm"
    yield f"Seeds: {_listed(r.seed for r in records)}; folds: {_listed(r.fold for r in records)}"
    yield f"Device: {_listed(r.device for r in records)}"
    yield f"Commit (+: changed since): {_listed(_short(r.commit) for r in records)}"
    yield f"Time: {sum(stages.values()) / 60:.0f} minutes of training; trainings: {len(stages)}"


def _short(commit: str) -> str:
    return commit[:12] + "+" * commit.endswith("+") or "unknown"


def _listed(values: Iterable[Any]) -> str:
    return ", ".join(map(str, sorted(set(values))))


def _effect(effect: Interval | None) -> str:
    return _ranged(effect, "+.3f")


def _share(found: Interval | None) -> str:
    return _ranged(found, ".3f")


def _ranged(found: Interval | None, form: str) -> str:
    """The mean and its interval; a single patient has none."""
    if found is None:
        return ""
    if math.isnan(found.low):
        return f"{found.mean:{form}}"
    return f"{found.mean:{form}} [{found.low:{form}}, {found.high:{form}}]"


def _table(rows: Sequence[Sequence[str]]) -> str:
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
