"""From the records of a claim's runs to its verdict: a function of those files alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from jaxtyping import Float

from medjax.errors import UserError
from medjax.metrics.statistics import Interval, two_level_bootstrap, two_level_ratio
from medjax.train.results import read_json

Scores = Mapping[tuple[int, str], float]  # by seed and patient


@dataclass(frozen=True)
class Claim:
    """An entry of claims.yaml.

    A patient's score is `metric` (more is better) of `structure`, or the mean of several, averaged over
    the patient's scans; `both_empty` where it is undefined, as the structure is neither there nor found.
    Each arm that has such scores is compared with the arm `baseline`; the verdict on the arm `decides` is the
    claim's. Where an arm `full` has all that could be had, an arm is also measured as a share of it: it must
    reach `ratio` of its mean and have `closed` so much of the gap between baseline and full. `records` names
    the claim with which this one shares its runs: it judges them by another metric, against another arm, or
    has arms of its own, which run with the others. `curve` is drawn: for each line, the arm at each place
    `along` an axis, whose name this is.
    """

    claim: str
    source: str
    command: str
    metric: str
    structure: str | list[str]
    both_empty: float
    baseline: str
    decides: str
    arms: dict[str, str]
    seeds: int
    level: float
    no_effect: float
    target: float
    rule: str
    full: str = ""
    ratio: float = 0.0
    closed: float = 0.0
    records: str = ""
    along: str = ""
    curve: dict[str, dict[float, str]] = field(default_factory=dict)

    @property
    def structures(self) -> list[str]:
        """What is scored, as a list."""
        return [self.structure] if isinstance(self.structure, str) else self.structure


@dataclass(frozen=True)
class Record:
    """One run of a claim, a JSON file: an arm with one seed and one fold. It holds no path of a machine.

    `recipe` says key by key what the arm does, the same for all its runs; `steps` the optimiser
    steps behind the judged weights; `stages` its trainings ({run, cases, steps, seconds}: arms may
    share one); `data` the set that it was judged on (name, cases, split_sha256); `patients` the
    patient of each test case; `scores[structure][metric][case]`, None where undefined; `figures` those of
    all test cases at once, which no rule decides by.
    """

    claim: str
    arm: str
    seed: int
    fold: int
    recipe: dict[str, Any]
    commit: str
    device: str
    versions: dict[str, str]
    data: dict[str, Any]
    steps: int
    stages: list[dict[str, Any]]
    patients: dict[str, str]
    scores: dict[str, dict[str, dict[str, float | None]]]
    figures: dict[str, float | None] = field(default_factory=dict)

    @property
    def file(self) -> str:
        """The name of its file."""
        return f"{self.arm}-seed{self.seed}-fold{self.fold}.json"


@dataclass(frozen=True)
class Outcome:
    """What came out of one arm: mean score and effect, None before a run; the baseline has no effect.

    ratio and closed: of the claim's `full`, where it has one.
    """

    arm: str
    seeds: int
    patients: int
    mean: Interval | None
    effect: Interval | None
    verdict: str | None
    ratio: Interval | None = None
    closed: Interval | None = None


def read_claims(path: Path) -> dict[str, Claim]:
    """The claims of a claims.yaml by name. Errors name the file and what is wrong in it."""
    try:
        claims = {k: Claim(**v) for k, v in yaml.safe_load(path.read_text("utf-8")).items()}
    except (OSError, yaml.YAMLError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: {' '.join(str(error).split())}; correct the file") from error
    for name, claim in claims.items():
        if not {claim.baseline} < {claim.baseline, claim.decides} <= claim.arms.keys():
            raise UserError(f"{path}: {name}: baseline and decides must be two of its arms")
        if claim.full and claim.full not in claim.arms.keys() - {claim.baseline, claim.decides}:
            raise UserError(f"{path}: {name}: full must be another of its arms")
        if claim.records and (claim.records not in claims or claims[claim.records].records):
            raise UserError(f"{path}: {name}: records must name a claim with runs of its own")
        if not claim.arms.items() <= arms_together(claims, claim.records or name).items():
            raise UserError(f"{path}: {name}: an arm is another in a claim on the same runs")
        strange = {arm for line in claim.curve.values() for arm in line.values()} - {*claim.arms}
        if strange:
            raise UserError(f"{path}: {name}: curve: {min(strange)} is none of its arms")
    return claims


def arms_together(claims: Mapping[str, Claim], name: str) -> dict[str, str]:
    """The arms of all claims on the runs of the claim `name`, in their order."""
    made: dict[str, str] = {}
    for other, claim in claims.items():
        made |= claim.arms if name in (other, claim.records) else {}
    return made


def read_records(folder: Path) -> list[Record]:
    """The records of one claim, by file name; none where the folder is not there. Errors name the file."""
    return [read_record(path) for path in sorted(folder.glob("*.json"))]


def read_record(path: Path) -> Record:
    """One record. Errors name the file."""
    try:
        return Record(**read_json(path))
    except TypeError as error:
        raise UserError(f"{path}: is no record ({error}); remove it and run again") from error


def finished(claim: Claim, records: Sequence[Record]) -> tuple[list[Record], list[int]]:
    """The records of those seeds that all arms with any, and the baseline, have in all folds; other seeds.

    A claim that is still running, or was stopped, is judged by what it can compare. A record of no arm of
    the claim is kept: `judge` refuses it.
    """
    known = [r for r in records if r.arm in claim.arms]
    arms, folds = {claim.baseline, *(r.arm for r in known)}, {r.fold for r in known}
    had = {(r.seed, r.arm, r.fold) for r in known}
    seeds = sorted({r.seed for r in known})
    others = [s for s in seeds if any((s, arm, f) not in had for arm in arms for f in folds)]
    return [r for r in records if r.seed not in others or r.arm not in claim.arms], others


def check_steps(steps: Mapping[str, int]) -> None:
    """Raises `UserError` unless all arms have the same number of optimiser steps."""
    if len(set(steps.values())) > 1:
        listed = ", ".join(f"{arm} {number}" for arm, number in steps.items())
        raise UserError(f"claim.arms: optimiser steps differ ({listed}); make their totals equal")


def verdict(
    effect: Interval | None,
    seeds: int,
    claim: Claim,
    ratio: Interval | None = None,
    closed: Interval | None = None,
) -> str:
    """The rule of the claim, applied; an interval that touches `no_effect` includes it."""
    if effect is None or seeds < claim.seeds or (claim.full and (ratio is None or closed is None)):
        return "incomplete"
    if effect.low > claim.no_effect:
        enough = effect.mean >= claim.target
        if ratio is not None and closed is not None:
            enough = enough and ratio.mean >= claim.ratio and closed.mean >= claim.closed
        return "reproduced" if enough else "direction only"
    return "contradicted" if effect.high < claim.no_effect else "not reproduced"


def judge(claim: Claim, records: Sequence[Record]) -> list[Outcome]:
    """One outcome an arm, in the order of the claim.

    Errors: runs that cannot be compared: an arm that is not the claim's, other steps, another data
    set, an arm made by two recipes, a seed, fold or case that an arm has and the baseline lacks or
    the other way round.
    """
    _check(claim, records)
    scores = {arm: _scores(claim, [r for r in records if r.arm == arm]) for arm in claim.arms}
    outcomes = []
    for arm, ours in scores.items():
        seeds, patients = (len({key[axis] for key in ours}) for axis in (0, 1))
        own, base = _matrix(ours), _matrix(scores[claim.baseline])
        mean = two_level_bootstrap(own, level=claim.level) if ours else None
        effect = result = ratio = closed = None
        if arm != claim.baseline:
            if ours:
                effect = two_level_bootstrap(own - base, level=claim.level)
            whole = scores.get(claim.full)
            if ours and whole and arm != claim.full:
                most = _matrix(whole)
                ratio = two_level_ratio(own, most, level=claim.level)
                closed = two_level_ratio(own - base, most - base, level=claim.level)
            other = not ours and any(record.arm == arm for record in records)
            if arm != claim.full and not other:
                result = verdict(effect, seeds, claim, ratio, closed)
        outcomes.append(Outcome(arm, seeds, patients, mean, effect, result, ratio, closed))
    return outcomes


def _check(claim: Claim, records: Sequence[Record]) -> None:
    cases: dict[str, set[tuple[int, int, str]]] = {arm: set() for arm in claim.arms}
    recipes: dict[str, dict[str, Any]] = {}
    for record in records:
        where = f"{record.claim}/{record.file}"
        if record.arm not in cases:
            raise UserError(f"{where}: is of no arm of the claim; remove it or add the arm")
        known = recipes.setdefault(record.arm, record.recipe)
        if any(known[key] != record.recipe[key] for key in known.keys() & record.recipe.keys()):
            raise UserError(f"{where}: was made by another recipe than its arm's; run it again")
        if record.data["name"] != records[0].data["name"]:
            raise UserError(f"{where}: was judged on another data set; run all arms on one")
        cases[record.arm] |= {(record.seed, record.fold, case) for case in record.patients}
    check_steps({record.arm: record.steps for record in records})
    for arm, found in cases.items():
        alone = sorted(found ^ cases[claim.baseline])
        if found and alone:
            seed, fold, case = alone[0]
            raise UserError(
                f"{records[0].claim}: {arm} and {claim.baseline} are not paired: seed {seed}, fold "
                f"{fold}, case {case} is in one of them alone; run the claim to its end"
            )


def _scores(claim: Claim, records: Sequence[Record]) -> Scores:
    """The score of each seed and patient, the mean over the patient's scans."""
    scans: dict[tuple[int, str], list[float]] = {}
    made = any(claim.metric in r.scores.get(s, {}) for r in records for s in claim.structures)
    if not made and not {r.arm for r in records} & {claim.baseline, claim.decides, claim.full}:
        return {}  # of an arm with another task
    for record in records:
        for structure in claim.structures:
            scores = record.scores.get(structure, {}).get(claim.metric)
            if scores is None:
                raise UserError(
                    f"{record.claim}/{record.file}: has no {claim.metric} of {structure}; "
                    "correct claims.yaml, or run it again"
                )
            for case, score in scores.items():
                key = record.seed, record.patients[case]
                scans.setdefault(key, []).append(claim.both_empty if score is None else score)
    return {key: float(np.mean(values)) for key, values in scans.items()}


def _matrix(scores: Scores) -> Float[np.ndarray, "seeds patients"]:
    """The scores in the order of their names; nan where a seed did not test a patient."""
    seeds, patients = (sorted({key[axis] for key in scores}) for axis in (0, 1))
    made = np.full((len(seeds), len(patients)), np.nan)
    for (seed, patient), score in scores.items():
        made[seeds.index(seed), patients.index(patient)] = score
    return made
