"""From made-up records to verdicts: the rule, the pairing, and the page."""

import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml

from medjax.errors import UserError
from medjax.metrics.statistics import Interval, two_level_bootstrap
from medjax.train.claims import (
    Claim,
    Record,
    arms_together,
    finished,
    judge,
    read_claims,
    read_records,
    verdict,
)
from medjax.train.claims_page import page, summary, write_page

RULES = Path(__file__).parents[2] / "experiments" / "claims" / "claims.yaml"
CLAIM = Claim(
    claim="More helps.",
    source="An article.",
    command="python launch.py",
    metric="dice",
    structure="WT",
    both_empty=1.0,
    baseline="real",
    decides="more",
    arms={"real": "real scans", "more": "real scans and more"},
    seeds=3,
    level=0.95,
    no_effect=0.0,
    target=0.05,
    rule="A rule.",
)


def page_of(claim, **records):
    """CLAIMS.md of records by name, all of one claim."""
    judged = {name: judge(claim, own) for name, own in records.items()}
    return page(dict.fromkeys(records, claim), records, judged, {}, dict.fromkeys(records, ()))


def records(arm, values, *, seeds=(), fold=0, first=0, **changes):
    """A record a row of `values` (seeds, patients); patient i has the case `ci`."""
    made = []
    for seed, row in zip(seeds or range(len(values)), values, strict=True):
        cases = [f"c{first + i}" for i in range(len(row))]
        dice = {c: None if math.isnan(v) else float(v) for c, v in zip(cases, row, strict=True)}
        record = Record(
            claim="more",
            arm=arm,
            seed=seed,
            fold=fold,
            recipe={"name": arm, "stage 1: train.steps": 10},
            commit="0123456789abcdef+",
            device="cpu (2 cores)",
            versions={"jax": "1"},
            data={"name": "scans", "cases": 9, "split_sha256": "a"},
            steps=10,
            stages=[{"run": f"{arm}/{seed}", "cases": 6, "steps": 10, "seconds": 90.0}],
            patients={c: f"patient {c}" for c in cases},
            scores={"WT": {"dice": dice}},
        )
        made.append(replace(record, **changes))
    return made


def arms(effect, seeds=3, patients=8, spread=0.01):
    """Both arms, with a paired difference of that mean exactly."""
    base = np.random.default_rng(0).uniform(0.5, 0.8, (seeds, patients))
    noise = np.random.default_rng(1).normal(0, spread, base.shape)
    return records("real", base) + records("more", base + effect + noise - noise.mean())


@pytest.mark.parametrize(
    ("mean", "low", "high", "seeds", "said"),
    [
        (0.06, 0.01, 0.11, 3, "reproduced"),
        (0.05, 0.001, 0.1, 4, "reproduced"),
        (0.04, 0.01, 0.07, 3, "direction only"),
        (0.06, 0.0, 0.12, 3, "not reproduced"),
        (0.06, -0.01, 0.13, 3, "not reproduced"),
        (0.0, -0.01, 0.01, 3, "not reproduced"),
        (-0.06, -0.13, 0.01, 3, "not reproduced"),
        (-0.06, -0.1, 0.0, 3, "not reproduced"),
        (-0.06, -0.1, -0.02, 3, "contradicted"),
        (0.06, math.nan, math.nan, 3, "not reproduced"),
        (0.06, 0.01, 0.11, 2, "incomplete"),
        (-0.06, -0.1, -0.02, 1, "incomplete"),
    ],
)
def test_the_rule_gives_each_verdict(mean, low, high, seeds, said):
    assert verdict(Interval(mean, low, high, 9, 0), seeds, CLAIM) == said


@pytest.mark.parametrize(
    ("effect", "seeds", "said"),
    [
        (0.08, 3, "reproduced"),
        (0.03, 3, "direction only"),
        (0.0, 3, "not reproduced"),
        (-0.03, 3, "contradicted"),
        (0.08, 2, "incomplete"),
    ],
)
def test_records_give_each_verdict(effect, seeds, said):
    real, more = judge(CLAIM, arms(effect, seeds))
    assert (real.effect, real.verdict) == (None, None)
    assert more.verdict == said
    assert more.effect.mean == pytest.approx(effect)
    assert more.mean.mean - real.mean.mean == pytest.approx(effect)
    assert (more.seeds, more.patients) == (seeds, 8)


def test_the_effect_is_the_two_level_bootstrap_of_the_paired_differences():
    """Seeds that tested other patients, and two folds of one seed, fill one matrix with gaps."""
    ours, theirs = np.random.default_rng(3).uniform(0, 1, (2, 2, 6))
    made = []
    for arm, scores in (("more", ours), ("real", theirs)):
        made += records(arm, scores[:1, :3]) + records(arm, scores[:1, 3:5], fold=1, first=3)
        made += records(arm, scores[1:, 2:], seeds=[1], first=2)
    wanted = ours - theirs
    wanted[0, 5] = wanted[1, :2] = np.nan
    found = judge(CLAIM, made)[1]
    assert found.effect == two_level_bootstrap(wanted)
    assert found.patients == 6


def test_a_patient_counts_once_whatever_its_scans():
    """Two scans of a patient weigh as much as the one of another."""
    patients = {"c0": "a", "c1": "a", "c2": "b"}
    made = records("real", np.zeros((3, 3)), patients=patients)
    made += records("more", np.array([[0.0, 0.6, 0.9]] * 3), patients=patients)
    found = judge(CLAIM, made)[1]
    assert found.patients == 2
    assert found.mean.mean == pytest.approx(0.6)
    assert found.effect.mean == pytest.approx(0.6)


def test_a_false_alarm_costs_what_a_scan_rightly_left_empty_earns():
    made = records("real", np.array([[np.nan, 0.5]] * 3))
    made += records("more", np.array([[0.0, 0.5]] * 3))
    assert judge(CLAIM, made)[1].effect.mean == pytest.approx(-0.5)


FULL = replace(
    CLAIM, full="all", arms={**CLAIM.arms, "all": "everything"}, target=0.0, ratio=0.9, closed=0.5
)


@pytest.mark.parametrize(
    ("closed", "whole", "said"),
    [(0.6, 0.1, "reproduced"), (0.4, 0.1, "direction only"), (0.6, 0.9, "direction only")],
)
def test_an_arm_is_measured_between_baseline_and_full(closed, whole, said):
    """The third closes enough of a gap so wide that nine tenths are not reached."""
    base = np.random.default_rng(0).uniform(0.4, 0.6, (3, 8))
    made = (
        records("real", base)
        + records("more", base + closed * whole)
        + records("all", base + whole)
    )
    real, more, full = judge(FULL, made)
    assert more.closed.mean == pytest.approx(closed)
    assert more.closed.high == pytest.approx(closed)
    assert more.ratio.mean == pytest.approx((base.mean() + closed * whole) / (base.mean() + whole))
    assert more.verdict == said
    assert (full.verdict, full.ratio, real.closed) == (None, None, None)
    assert judge(FULL, made[:6])[1].verdict == "incomplete"  # nothing is known of `all` yet
    text = page_of(FULL, more=made)
    assert "of all | gap closed" in text
    assert f"{closed:.3f} [{closed:.3f}, {closed:.3f}]" in text
    assert "0.9 of all, 0.5 of the gap closed" in text


def test_several_structures_are_averaged():
    claim = replace(CLAIM, structure=["WT", "TC"])
    made = []
    for record in arms(0.08):
        core = {case: value - 0.2 for case, value in record.scores["WT"]["dice"].items()}
        made.append(replace(record, scores={**record.scores, "TC": {"dice": core}}))
    for one, both in zip(judge(CLAIM, made), judge(claim, made), strict=True):
        assert both.mean.mean == pytest.approx(one.mean.mean - 0.1)
        assert both.effect == one.effect or both.effect[:3] == pytest.approx(one.effect[:3])
    with pytest.raises(UserError, match="has no dice of ET"):
        judge(replace(CLAIM, structure=["WT", "ET"]), made)


def test_an_arm_that_has_not_run_is_incomplete():
    real, more = judge(CLAIM, arms(0.1)[:3])
    assert real.seeds == 3
    assert (more.seeds, more.mean, more.effect, more.verdict) == (0, None, None, "incomplete")


BASE = np.full((3, 4), 0.5)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (records("more", BASE[:2]), "not paired: seed 2"),
        (records("more", BASE[:, :3]), "case c3"),
        (records("more", BASE, first=1), "not paired"),
        (records("more", BASE, fold=1), "not paired"),
        (records("more", BASE, steps=11), "real 10, more 11"),
        (records("more", BASE, data={"name": "phantoms", "cases": 1}), "another data set"),
        (records("more", BASE, scores={"TC": {}}), "no dice of WT"),
        (records("less", BASE), "no arm"),
        (
            records("more", BASE[:2]) + records("more", BASE[:1], seeds=[2], recipe={"name": "x"}),
            "another recipe than",
        ),
    ],
)
def test_runs_that_cannot_be_compared_are_refused(more, said):
    with pytest.raises(UserError, match=said) as caught:
        judge(CLAIM, records("real", BASE) + more)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("later", "kept", "others"),
    [
        ([], [0, 1], []),
        (records("real", BASE[:1], seeds=[2]), [0, 1], [2]),
        (records("real", BASE[:1], fold=1), [], [0, 1]),  # of one arm and seed
        (records("real", BASE[:1], fold=1) + records("more", BASE[:1], fold=1), [0], [1]),
        (records("most", BASE[:1], seeds=[1]), [1], [0]),  # an arm that came later
    ],
)
def test_a_claim_is_judged_by_the_seeds_that_all_arms_have_finished(later, kept, others):
    made = records("real", BASE[:2]) + records("more", BASE[:2]) + later
    claim = replace(CLAIM, arms={**CLAIM.arms, "most": "all"})
    found, left_out = finished(claim, made)
    assert (sorted({r.seed for r in found}), left_out) == (kept, others)
    assert found == [r for r in made if r.seed in kept]


def test_nothing_is_judged_before_the_baseline_has_runs():
    made = records("more", BASE[:2])
    assert finished(CLAIM, made) == ([], [0, 1])
    assert judge(CLAIM, [])[1].verdict == "incomplete"


def test_a_record_of_no_arm_leaves_no_seed_out_and_is_refused(tmp_path):
    """As after an arm was renamed: its old records are named, the seeds of the others are not lost."""
    folder = tmp_path / "results" / "more"
    folder.mkdir(parents=True)
    for record in arms(0.08) + records("less", BASE[:1], seeds=[9]):
        (folder / record.file).write_text(json.dumps(asdict(record)))
    with pytest.raises(UserError, match=r"less-seed9-fold0\.json: is of no arm"):
        write_page(tmp_path / "CLAIMS.md", {"more": CLAIM}, tmp_path / "results")


def test_the_page_names_the_seeds_that_it_leaves_out(tmp_path):
    """A claim that was stopped is no reason to have no page."""
    (tmp_path / "results" / "more").mkdir(parents=True)
    for record in records("real", BASE) + records("more", BASE[:2]):
        (tmp_path / "results" / "more" / record.file).write_text(json.dumps(asdict(record)))
    write_page(tmp_path / "CLAIMS.md", {"more": CLAIM}, tmp_path / "results")
    text = (tmp_path / "CLAIMS.md").read_text("utf-8")
    assert "Left out until all arms have them: seeds 2" in text
    assert "Seeds: 0, 1; folds: 0" in text


def test_the_same_records_give_the_same_bytes(tmp_path):
    """Whatever the order in which they were written."""
    made, claims = arms(0.08), {"more": CLAIM}
    pages = []
    for name, order in (("a", made), ("b", made[::-1])):
        folder = tmp_path / name / "more"
        folder.mkdir(parents=True)
        for record in order:
            (folder / record.file).write_text(json.dumps(asdict(record)))
        assert read_records(folder) == sorted(made, key=lambda r: r.file)
        for _ in range(2):
            write_page(tmp_path / f"{name}.md", claims, tmp_path / name)
            pages.append((tmp_path / f"{name}.md").read_bytes())
    assert len(set(pages)) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "a.md", "b", "b.md"]


def test_the_page_states_what_was_found():
    text = page_of(CLAIM, more=arms(0.08), other=[])
    head, more, other = text.split("## ")
    assert head.count("More helps.") == 2
    found = judge(CLAIM, arms(0.08))
    assert summary({"more": CLAIM}, {"more": found}).splitlines()[2] in head
    effect = found[1].effect
    assert f"+0.080 [{effect.low:+.3f}, {effect.high:+.3f}] | reproduced |" in more
    assert "Seeds: 0, 1, 2; folds: 0" in more
    assert "Time: 9 minutes of training; trainings: 6" in more
    assert "0123456789ab+" in more
    assert "No run yet." in other
    assert "incomplete" in other
    widths = {line.count("|") for line in more.splitlines() if line.startswith("|")}
    assert len(widths) == 1


def test_the_page_shows_no_interval_of_a_single_patient():
    made = arms(0.08, seeds=1, patients=1)
    assert math.isnan(judge(CLAIM, made)[1].effect.low)
    text = page_of(CLAIM, more=made)
    assert "nan" not in text
    assert "| +0.080 | incomplete |" in text


def test_a_training_that_arms_share_is_timed_once():
    made = arms(0.08)
    shared = [replace(r, stages=made[0].stages) for r in made]
    assert "Time: 2 minutes of training; trainings: 1" in page_of(CLAIM, more=shared)


def test_a_curve_is_drawn_of_the_arms_that_have_run(tmp_path):
    """With the intervals of the table, and the same picture each time."""
    lines = {
        "with more": {4: "more", 100: "most"},
        "alone": {4: "real", 100: "most"},
        "later": {9: "most"},
    }
    claim = replace(CLAIM, arms={**CLAIM.arms, "most": "all"}, along="scans (all)", curve=lines)
    results, path = tmp_path / "results", tmp_path / "pages" / "CLAIMS.md"
    write_page(path, {"more": claim}, results)
    assert not (results / "more.svg").exists()
    assert "![" not in path.read_text("utf-8")
    (results / "more").mkdir(parents=True)
    for record in arms(0.08):
        (results / "more" / record.file).write_text(json.dumps(asdict(record)))
    drawn = set()
    for _ in range(2):
        write_page(path, {"more": claim}, results)
        drawn.add((results / "more.svg").read_text("utf-8"))
    assert "![dice along scans (all)](../results/more.svg)" in path.read_text("utf-8")
    (text,) = drawn
    assert ElementTree.fromstring(text).tag.endswith("svg")
    assert {name for name in lines if f">{name}<" in text} == {"with more", "alone"}
    assert ">100<" not in text  # a place where nothing has run yet


def test_the_shipped_rules_say_in_words_what_their_numbers_do():
    claims = read_claims(RULES)
    assert "synthetic" in claims
    for claim in claims.values():
        for said in (f"at least {claim.target:+g}", f"{claim.level:.0%}".replace("%", " %")):
            assert said in claim.rule
        assert f"fewer than {claim.seeds} seeds" in claim.rule
        assert f"arm `{claim.baseline}`" in claim.rule


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("  seeds: 3", "  sedes: 3"),
        ("  target: 0.05", "  other: [0.05"),
        ("baseline: real", "baseline: reel"),
        ("decides: cyclegan", "decides: real"),
        ("0.5: uncertainty_missing_50", "0.5: equal"),
    ],
)
def test_faults_of_the_rules_name_the_file(old, new, tmp_path):
    path = tmp_path / "claims.yaml"
    path.write_text(RULES.read_text("utf-8").replace(old, new, 1))
    with pytest.raises(UserError, match=r"claims\.yaml") as caught:
        read_claims(path)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("text", ["{", '{"claim": "more"}'])
def test_a_file_that_is_no_record_is_named(text, tmp_path):
    (tmp_path / "real-seed0-fold0.json").write_text(text)
    with pytest.raises(UserError, match=r"real-seed0-fold0\.json"):
        read_records(tmp_path)


def test_a_claim_may_judge_the_runs_of_another(tmp_path):
    """By another metric, of those arms that it names; figures of all cases stand with the runs alone."""
    made = arms(0.08)
    for number, record in enumerate(made):
        cases = record.patients
        record.scores["classification"] = {"accuracy": dict.fromkeys(cases, 0.25 * (number >= 3))}
        record.figures["classification: auc"] = 0.5 + number / 10
    made += [replace(r, arm="alone", scores={"WT": r.scores["WT"]}) for r in made[:3]]
    made += [
        replace(r, arm="other", scores={"classification": r.scores["classification"]}, figures={})
        for r in made[:3]
    ]
    (tmp_path / "more").mkdir()
    for record in made:
        (tmp_path / "more" / record.file).write_text(json.dumps(asdict(record)))
    own = replace(CLAIM, arms={**CLAIM.arms, "alone": "one task", "other": "another task"})
    other = replace(
        CLAIM, metric="accuracy", structure="classification", target=0.25, records="more"
    )
    write_page(tmp_path / "CLAIMS.md", {"more": own, "other": other}, tmp_path)
    text = (tmp_path / "CLAIMS.md").read_text("utf-8")
    assert "| more | real scans and more | 3 | 8 | 0.250 [0.250, 0.250] | +0.250" in text
    assert text.count("Means over runs") == 1
    assert "| more | 0.900 |" in text
    assert "| alone | 0.600 |" in text
    assert "| other | another task | 0 | 0 |  |  |  |\n" in text  # it has no Dice
    none = [replace(r, scores={}) if r.arm == "more" else r for r in made]
    with pytest.raises(UserError, match="has no dice of WT"):
        judge(own, none)


def test_claims_on_the_same_runs_may_have_arms_of_their_own(tmp_path):
    """Each page has its own arms; a record of none of them is refused."""
    own, other = (replace(CLAIM, arms={**CLAIM.arms, new: new}) for new in ("few", "many"))
    claims = {"more": own, "other": replace(other, records="more")}
    assert list(arms_together(claims, "more")) == [*CLAIM.arms, "few", "many"]
    assert arms_together(claims, "another") == {}
    (tmp_path / "more").mkdir()
    made = [*arms(0.08), *(replace(r, arm=arm) for r in arms(0.0)[:3] for arm in ("few", "many"))]
    made = [replace(record, figures={"found": 0.5}) for record in made]
    for record in made:
        (tmp_path / "more" / record.file).write_text(json.dumps(asdict(record)))
    write_page(tmp_path / "CLAIMS.md", claims, tmp_path)
    text = (tmp_path / "CLAIMS.md").read_text("utf-8")
    first, second = text.split("## ")[1:]
    assert "| few |" in first
    assert "| many |" not in first
    assert "| many | many | 3 | 8 |" in second
    assert "| few |" not in second
    assert "| many | 0.500 |" in second.split("Means over runs")[1]
    stray = replace(made[0], arm="stray")
    (tmp_path / "more" / stray.file).write_text(json.dumps(asdict(stray)))
    with pytest.raises(UserError, match=r"stray-seed0-fold0\.json: is of no arm"):
        write_page(tmp_path / "CLAIMS.md", claims, tmp_path)


def test_records_must_be_of_a_claim_with_runs(tmp_path):
    rules = tmp_path / "claims.yaml"
    fields = {k: v for k, v in asdict(CLAIM).items() if v not in ("", {})}
    for entry, wrong in (
        ({"records": "more"}, ""),
        ({"records": "more", "arms": {**CLAIM.arms, "new": "another"}}, ""),
        ({"records": "none"}, "other: records must name a claim with runs"),
        ({"records": "other"}, "other: records must name a claim with runs"),
        ({"records": "more", "arms": {**CLAIM.arms, "more": "another"}}, "an arm is another in"),
    ):
        rules.write_text(yaml.safe_dump({"more": fields, "other": {**fields, **entry}}))
        if not wrong:
            assert read_claims(rules)["other"].records == "more"
            continue
        with pytest.raises(UserError, match=wrong):
            read_claims(rules)
