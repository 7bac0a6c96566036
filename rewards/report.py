"""The validation report of a reward model: how far its scores can be believed, and whether that is far enough."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from tracemill import agreement
from tracemill.ids import canonical_json, content_id
from tracemill.rewards.probes import Probed
from tracemill.rewards.rows import query
from tracemill.schema import REWARD_REPORTS
from tracemill.stats import corrected_mean

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
SLICES = ("agent", "agent_version", "service", "source_format", "length")
_BINS = 10
_FEW_OF_A_KIND = 5
_ENOUGH_NEW = 50
"""Scores since the report before that tell drift from chance."""
_MOST_LOGGED = 20
"""Names that logs give their judges: more are no judges, but somebody's ids."""
_SAID = pa.schema(
    [("target_id", pa.string()), ("value", pa.float64()), ("flipped", pa.float64()), ("is_new", pa.bool_())]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """`[reports]`: what a reward model must reach to be used."""

    min_labels: Count = 50
    """Labels (votes count for what they weigh); with fewer, or fewer than five of a kind, they decide nothing."""
    min_auc: Share = 0.55
    min_slice_auc: Share = 0.4
    """Of its worst slice."""
    slice_labels: Count = 25
    """Smaller slices are not looked at."""
    max_ece: Share = 0.15
    """Of the combined score; other judges are calibrated there."""
    max_flip_rate: Share = 0.2
    max_probe_shift: Share = 0.1
    max_sealed_gap: Share = 0.2
    """How much more than a sealed model it may say, on average."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One version's report; `row` is how the lake keeps it."""

    name: str
    version: str
    n: int
    n_abstained: int
    n_labelled: int
    metrics: Mapping[str, Any]
    bins: tuple[agreement.Bin, ...]
    passed: bool | None
    failures: tuple[str, ...]

    def same_as(self, earlier: Mapping[str, Any] | None) -> bool:
        """Whether a report of `latest` says the same, drift aside."""
        if earlier is None or earlier["version"] != self.version:
            return False
        facts = self.row(night_id="", now_ns=0)
        plain = {key: value for key, value in self.metrics.items() if key != "psi"}
        before = {key: value for key, value in earlier["metrics"].items() if key != "psi"}
        return canonical_json(plain) == canonical_json(before) and all(
            facts[key] == earlier[key] for key in ("n", "n_abstained", "n_labelled", "passed", "failures")
        )

    def row(self, *, night_id: str, now_ns: int) -> dict[str, Any]:
        facts = {
            "name": self.name,
            "version": self.version,
            "n": self.n,
            "n_abstained": self.n_abstained,
            "n_labelled": self.n_labelled,
            "metrics": canonical_json(self.metrics),
            "reliability": canonical_json([asdict(one) for one in self.bins]),
            "passed": self.passed,
            "failures": list(self.failures),
        }
        return {"report_id": content_id(facts, night_id), **facts, "night_id": night_id, "at": now_ns}


def rows(reports: Sequence[Report], *, night_id: str, now_ns: int) -> pa.Table:
    """Rows of schema.REWARD_REPORTS."""
    return pa.Table.from_pylist([one.row(night_id=night_id, now_ns=now_ns) for one in reports], schema=REWARD_REPORTS)


def report(
    con: duckdb.DuckDBPyConnection,
    name: str,
    version: str,
    *,
    thresholds: Thresholds,
    level: str = "trajectory",
    sealed: Sequence[str] = (),
    said: pa.Table | None = None,
    calibrated: bool = False,
    ranking: bool = True,
    probes: Mapping[str, Probed] | None = None,
    remarks: Sequence[str] = (),
    earlier: Mapping[str, Any] | None = None,
) -> Report:
    """The report of one version on what it has judged so far; what has no version has "".

    A judge of steps (`level`) is held to episodes by the mean of their steps, one of sessions by all episodes of them.
    Labels are people's (as the feedback model reads them); where there are too few, the environment's rewards stand in
    and the report says so. `said` (target_id, value) stands in for the model's rows where those know the labels.
    `calibrated` holds it to its word as a probability; `ranking` False asks no order of it (a veto). `probes` are bias
    probes of a model that reads text, `earlier` is its previous report as `latest` gives it: drift is how what was
    said since differs from what it showed.
    """
    if said is None:
        since = earlier["at"] if earlier else 0
        about = {"name": name, "version": version, "level": level}
        said = query(con, "report_said", {**about, "since": since})
    else:
        before = query(con, "report_judged", {"name": name})["target_id"]
        said = said.append_column("flipped", pa.nulls(said.num_rows, pa.float64()))
        said = said.append_column("is_new", pc.invert(pc.is_in(said["target_id"], value_set=before)))
    con.register("said", said.cast(_SAID))
    try:
        targets = query(con, "report_targets")
        gaps = query(con, "report_sealed", {"sealed": [*(one for one in sealed if one != name), ""]}).to_pylist()
    finally:
        con.unregister("said")
    raters = query(con, "report_raters").to_pydict()
    value = _numbers(targets, "said")
    judged = ~np.isnan(value)
    label, weight, against = _labels(targets, judged, thresholds)
    mine = judged & ~np.isnan(label)
    scores, labels, weights = value[mine], label[mine], weight[mine]
    table = targets.filter(mine)
    bins = agreement.reliability(scores, labels, weights, bins=_BINS)
    brier = agreement.brier(scores, labels, weights, bins=_BINS)
    groups = [g or t for g, t in zip(*_columns(table, "task_group", "cluster"), strict=True)]
    pairs = agreement.pairwise(scores, labels, groups, weights)
    flipped = _numbers(targets, "flipped")
    new = judged & np.asarray(targets["is_new"].to_numpy(), dtype=np.bool_)
    metrics: dict[str, Any] = {
        "against": against,
        "n_good": int((labels >= 0.5).sum()),
        "label_weight": round(float(weights.sum()), 2),
        "mean": float(value[judged].mean()) if judged.any() else None,
        "auc": agreement.auc(scores, labels, weights),
        "pr_auc": agreement.pr_auc(scores, labels, weights),
        "brier": None if brier is None else asdict(brier),
        "ece": agreement.ece(scores, labels, weights, bins=_BINS),
        "calibration_slope": agreement.calibration_slope(scores, labels, weights),
        "kappa": agreement.kappa(scores, labels, weights),
        "kappa_ceiling": agreement.kappa(raters["one"], raters["other"]),
        "n_two_raters": len(raters["one"]),
        "pairwise": asdict(pairs),
        "worst_slice": _worst_slice(table, scores, labels, weights, thresholds.slice_labels),
        "flip_rate": float(np.nanmean(flipped)) if (~np.isnan(flipped)).any() else None,
        "probes": None if probes is None else {key: asdict(one) for key, one in probes.items()},
        "histogram": _histogram(value[judged]),
        "psi": None if earlier is None else _drift(earlier["metrics"].get("histogram"), _histogram(value[new])),
        "sealed_gap": {row["name"]: {"n": row["n"], "gap": row["gap"]} for row in gaps},
        "success": _success(targets, value),
        "remarks": list(remarks),
    }
    enough = _enough(labels, weights, thresholds)
    failures = _failures(metrics, thresholds, ranked=enough and ranking, calibrated=enough and calibrated)
    return Report(
        name=name,
        version=version,
        n=int(judged.sum()),
        n_abstained=said["value"].null_count,
        n_labelled=int(mine.sum()),
        metrics=metrics,
        bins=bins,
        passed=False if failures else True if enough else None,
        failures=tuple(failures),
    )


def logged(con: duckdb.DuckDBPyConnection, known: Sequence[str]) -> list[tuple[str, str]]:
    """Name and version of language models' judgements that none of `known` (names) made: they came with the logs."""
    found = query(con, "report_logged", {"known": [*known, ""], "most": _MOST_LOGGED})
    return list(zip(found["name"].to_pylist(), found["version"].to_pylist(), strict=True))


def latest(con: duckdb.DuckDBPyConnection) -> dict[str, dict[str, Any]]:
    """The newest report of each reward model, with its JSON read, by name."""
    found = con.execute(
        "from reward_reports "
        'qualify row_number() over (partition by name order by "at" desc, report_id) = 1 order by name'
    ).to_arrow_table()
    return {
        row["name"]: {**row, "metrics": json.loads(row["metrics"]), "reliability": json.loads(row["reliability"])}
        for row in found.to_pylist()
    }


def _labels(
    targets: pa.Table, judged: np.ndarray[Any, np.dtype[np.bool_]], thresholds: Thresholds
) -> tuple[agreement.Floats, agreement.Floats, str]:
    """Labels, what each weighs, and whose they are."""
    people, env, weight = _numbers(targets, "label"), _numbers(targets, "env"), _numbers(targets, "weight")
    known, told = judged & ~np.isnan(people), judged & ~np.isnan(env)
    same = np.ones(len(env))
    if not _enough(people[known], weight[known], thresholds) and _enough(env[told], same[told], thresholds):
        return env, same, "env"
    return people, weight, "people"


def _enough(labels: agreement.Floats, weights: agreement.Floats, thresholds: Thresholds) -> bool:
    total, good = float(weights.sum()), float(weights[labels >= 0.5].sum())
    return total >= thresholds.min_labels and min(good, total - good) >= _FEW_OF_A_KIND


def _numbers(table: pa.Table, column: str) -> agreement.Floats:
    return np.asarray(table[column].to_numpy(), dtype=np.float64)  # NULL becomes NaN


def _columns(table: pa.Table, *names: str) -> list[list[str]]:
    return [table[name].to_pylist() for name in names]


def _histogram(values: agreement.Floats) -> list[int]:
    counts: list[int] = np.histogram(np.clip(values, 0, 1), bins=_BINS, range=(0, 1))[0].tolist()
    return counts


def _drift(before: Sequence[int] | None, new: Sequence[int]) -> float | None:
    """PSI of new scores against those of the report before, less what chance alone gives; None where they are few."""
    if before is None or min(sum(before), sum(new)) < _ENOUGH_NEW:
        return None
    moved = agreement.psi(before, new)
    used = sum(a + b > 0 for a, b in zip(before, new, strict=True))
    chance = (used - 1) * (1 / sum(before) + 1 / sum(new))
    return None if moved is None else max(0.0, moved - chance)


def _worst_slice(
    table: pa.Table, scores: agreement.Floats, labels: agreement.Floats, weights: agreement.Floats, least: int
) -> dict[str, Any] | None:
    found = []
    for dimension in SLICES:
        names = np.array([str(one or "") for one in table[dimension].to_pylist()], dtype=np.str_)
        for name in sorted(set(names.tolist()) - {""}):
            mine = names == name
            enough = weights[mine].sum() >= least
            area = agreement.auc(scores[mine], labels[mine], weights[mine]) if enough else None
            if area is not None:
                found.append({"dimension": dimension, "value": name, "n": int(mine.sum()), "auc": area})
    return min(found, key=lambda one: float(str(one["auc"])), default=None)


def _success(targets: pa.Table, value: agreement.Floats) -> dict[str, Any] | None:
    """The success rate of all trajectories, from sampled labels of people and this model's scores."""
    known, labelled = ~np.isnan(value), ~np.isnan(_numbers(targets, "sampled"))
    if not (known & labelled).any() or not (known & ~labelled).any():
        return None
    if float(known[~labelled].mean()) < 0.9 * float(known[labelled].mean()):
        return None  # it scores what is labelled (a check against corrections): the rest is not like that
    filled = np.where(known, value, value[known].mean())  # an abstention says what the model says on average
    found = corrected_mean(
        filled.tolist(),
        targets["cluster"].to_pylist(),
        targets["sampled"].to_pylist(),
        [p if p else None for p in targets["propensity"].to_pylist()],
    )
    return None if found is None else asdict(found)


def _failures(metrics: Mapping[str, Any], limits: Thresholds, *, ranked: bool, calibrated: bool) -> list[str]:
    said: list[str] = []
    if ranked:
        if metrics["auc"] is not None and metrics["auc"] < limits.min_auc:
            said.append(f"AUC {metrics['auc']:.2f} is below {limits.min_auc:g}")
        worst = metrics["worst_slice"]
        if worst is not None and worst["auc"] < limits.min_slice_auc:
            where = f"{worst['dimension']} {worst['value']}"
            said.append(f"AUC {worst['auc']:.2f} where {where} (n = {worst['n']}) is below {limits.min_slice_auc:g}")
    if calibrated and metrics["ece"] is not None and metrics["ece"] > limits.max_ece:
        said.append(f"calibration error {metrics['ece']:.2f} is above {limits.max_ece:g}")
    if metrics["flip_rate"] is not None and metrics["flip_rate"] > limits.max_flip_rate:
        said.append(
            f"it flips with the order in {metrics['flip_rate']:.0%} of cases, more than {limits.max_flip_rate:.0%}"
        )
    for name, one in sorted((metrics["probes"] or {}).items()):
        if one["shift"] > limits.max_probe_shift:
            raised = f"raises its scores by {one['shift']:.2f}, more than {limits.max_probe_shift:g}"
            said.append(f"{name.replace('_', ' ')} {raised}")
    for name, one in metrics["sealed_gap"].items():
        if one["gap"] > limits.max_sealed_gap:
            said.append(f"it says {one['gap']:.2f} more than the sealed {name}, above {limits.max_sealed_gap:g}")
    return said
