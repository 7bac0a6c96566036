"""What two artifacts did on the same cases, as one pair of means per task group; and what earlier nights saw."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from tracemill.errors import ConfigError
from tracemill.records import Outcome
from tracemill.stats import cluster_order


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterPair:
    """Mean rewards of both sides over the cases of one task group that both sides have a reward for."""

    baseline: float
    candidate: float
    n_cases: int

    @property
    def difference(self) -> float:
        return self.candidate - self.baseline


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorEvidence:
    """What earlier nights bet on for this candidate against this baseline; its groups are never bet on again."""

    e_value: float = 1.0
    clusters: Mapping[str, ClusterPair] = field(default_factory=dict)
    nights: int = 0

    @classmethod
    def from_rows(
        cls, verdicts: pa.Table, evaluations: pa.Table, *, candidate_id: str, baseline_id: str, channel: str
    ) -> "PriorEvidence | None":
        """Read back from rows of schema.VERDICTS and schema.EVALUATIONS; None where the pair was never tested.

        Evaluations of nights without a verdict on the pair (tonight's, or a night that broke off) are not used.
        """
        past = verdicts.filter(
            (pc.field("candidate_id") == candidate_id)
            & (pc.field("baseline_id") == baseline_id)
            & (pc.field("channel") == channel)
            & pc.field("e_value").is_valid()
        ).to_pylist()
        if not past:
            return None
        past.sort(key=lambda row: row["at"] or 0)
        nights = list(dict.fromkeys(row["night_id"] for row in past))
        rows = evaluations.filter(
            pc.field("candidate_id").isin([candidate_id, baseline_id])
            & (pc.field("purpose") == "gate")
            & pc.field("night_id").isin(nights)
        ).select(["candidate_id", "case_id", "task_group", "reward", "night_id"])
        by_night: dict[str, tuple[list[_Scored], list[_Scored]]] = {night: ([], []) for night in nights}
        for row in rows.to_pylist():
            side = by_night[row["night_id"]][0 if row["candidate_id"] == candidate_id else 1]
            side.append((row["case_id"], row["task_group"], row["reward"]))
        clusters: dict[str, ClusterPair] = {}
        for candidate, baseline in by_night.values():
            found = _cluster(candidate, baseline, skip=clusters)
            clusters.update(found.clusters)
        return cls(e_value=past[-1]["e_value"], clusters=clusters, nights=len(nights))


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """Tonight's evidence on groups that were not bet on before, in an order that outcomes cannot influence."""

    clusters: Mapping[str, ClusterPair]
    n_cases: int
    """Cases seen on either side, scored or not, fresh or not."""
    unscored: int
    """Cases without a reward on at least one side; they are in no cluster."""
    unscored_candidate: int
    unscored_baseline: int


_Scored = tuple[str, str, float | None]


def pair(candidate: Sequence[Outcome], baseline: Sequence[Outcome], *, skip: Mapping[str, ClusterPair]) -> Paired:
    """Outcomes paired by case id, clustered by task group, without the groups of `skip`.

    A case that was sampled several times counts with the mean of its scored samples.
    """
    return _cluster(
        [(one.case_id, one.task_group, one.reward) for one in candidate],
        [(one.case_id, one.task_group, one.reward) for one in baseline],
        skip=skip,
    )


def _cluster(candidate: Sequence[_Scored], baseline: Sequence[_Scored], *, skip: Mapping[str, ClusterPair]) -> Paired:
    ours, theirs = _case_means(candidate), _case_means(baseline)
    groups = {case_id: group for case_id, group, _ in (*baseline, *candidate)}
    both = {case_id for case_id in groups if ours.get(case_id) is not None and theirs.get(case_id) is not None}
    members: dict[str, list[str]] = {}
    for case_id in sorted(both):
        if groups[case_id] not in skip:
            members.setdefault(groups[case_id], []).append(case_id)
    return Paired(
        clusters={
            group: ClusterPair(
                baseline=_mean([theirs[case_id] for case_id in members[group]]),
                candidate=_mean([ours[case_id] for case_id in members[group]]),
                n_cases=len(members[group]),
            )
            for group in cluster_order(members)
        },
        n_cases=len(groups),
        unscored=len(groups) - len(both),
        unscored_candidate=sum(ours.get(case_id) is None for case_id in groups),
        unscored_baseline=sum(theirs.get(case_id) is None for case_id in groups),
    )


def _case_means(rows: Sequence[_Scored]) -> dict[str, float | None]:
    samples: dict[str, list[float]] = {}
    for case_id, _, reward in rows:
        kept = samples.setdefault(case_id, [])
        if reward is None:
            continue
        if not 0.0 <= reward <= 1.0:
            raise ConfigError(
                f"case {case_id} has reward {reward}; the gate needs rewards in [0, 1]: scale the verifier"
            )
        kept.append(reward)
    return {case_id: _mean(kept) if kept else None for case_id, kept in samples.items()}


def _mean(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return sum(known) / len(known)
