"""The gate: is the candidate better than what production runs, on cases that learning never saw?

A task group is one observation. The evidence is an e-value, which may be looked at every night and carried to the
next; the level it has to reach comes from a budget for the deployment's whole life (wealth.py). The interval is for
people, and for giving up early; it promotes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

from tracemill.errors import ConfigError
from tracemill.promote.evidence import ClusterPair, Paired, PriorEvidence, pair
from tracemill.promote.wealth import Wealth
from tracemill.records import EVIDENCE, Candidate, Decision, Guardrail, Outcome, Verdict
from tracemill.stats import Interval, e_process, minimum_detectable_effect, paired_difference


@dataclass(frozen=True, slots=True, kw_only=True)
class GatePolicy:
    """What counts as better, and how sure one has to be. Effects are differences of mean reward, 0.08 = 8 points."""

    alpha: float = 0.05
    """Expected share of false promotions among all promotions of the deployment's life."""
    min_effect: float = 0.0
    """Promotion proves an effect larger than this."""
    wanted_effect: float = 0.08
    """The effect that is worth having: what is surely below it is rejected, what cannot show it is underpowered."""
    min_clusters: int = 10
    """Fewer task groups than this decide nothing, however clear they look."""
    max_nights: int = 5
    """Nights that one candidate may gather evidence."""
    harm_alpha: float = 0.05
    """Chance of rejecting a harmless candidate as harmful."""
    max_unscored: float = 0.3
    """Share of cases that may lack a reward on either side."""
    max_unscored_gap: float = 0.05
    """How much more often than the baseline a candidate may go without a reward: not answering must not pay."""
    power: float = 0.5
    """UNDERPOWERED where the nights that are left would prove the effect with less than this chance. At 0.8 half of
    the candidates better by 8 points that 200 groups a night can prove were given up early (bench/gate.py)."""
    level: float = 0.95
    """Of the reported interval."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("alpha", "harm_alpha", "power", "level"):
            value = getattr(self, name)
            if not 0 < value < 1:
                raise ConfigError(f"gate policy: {name} is {value}; it must lie between 0 and 1")
        if not -1 < self.min_effect <= self.wanted_effect < 1:
            raise ConfigError(
                f"gate policy: min_effect {self.min_effect} and wanted_effect {self.wanted_effect} "
                "must lie between -1 and 1, the first not above the second"
            )
        if self.min_clusters < 2 or self.max_nights < 1:
            raise ConfigError("gate policy: min_clusters must be at least 2 and max_nights at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Evidence:
    """Everything known about the pair, earlier nights and tonight together."""

    tonight: Paired
    clusters: Sequence[ClusterPair]
    interval: Interval | None
    e_value: float | None
    """None where no group was ever scored on both sides."""
    harm: float
    """e-value against "not worse than the baseline"."""
    level: float
    nights: int

    @property
    def n_cases(self) -> int:
        return sum(cluster.n_cases for cluster in self.clusters)

    @property
    def n_fresh(self) -> int:
        return len(self.tonight.clusters)


def decide(
    candidate: Candidate,
    baseline: Candidate,
    candidate_outcomes: Sequence[Outcome],
    baseline_outcomes: Sequence[Outcome],
    *,
    policy: GatePolicy,
    wealth: Wealth,
    guardrails: Sequence[Guardrail],
    channel: str,
    prior: PriorEvidence | None,
) -> Decision:
    """The verdict on one candidate.

    PROMOTE       proven better than `min_effect` at the level that the budget allows, every guardrail passed
    BLOCKED       a guardrail failed or could not be measured, or the candidate evades being scored
    REJECT        surely below the wanted effect, surely harmful, or unproven after the last night
    CONTINUE      not proven yet; further nights can prove it: pass this night's evidence as `prior`
    UNDERPOWERED  no night can prove it with so few task groups, or too few cases could be scored

    Outcomes are paired by case id; cases without a reward on either side are left out and counted in the reason.
    Raises ConfigError for rewards outside [0, 1], and for outcomes that are no evidence: those of a tool or user that
    a model played.
    """
    for one in (*candidate_outcomes, *baseline_outcomes):
        if one.fidelity not in EVIDENCE:
            raise ConfigError(
                f"case {one.case_id} was replayed as {one.fidelity!r}, which is for exploring and proves nothing; "
                "give the gate outcomes of another level"
            )
    level = wealth.level(policy.alpha, candidate.candidate_id, baseline.candidate_id)
    evidence = _gather(candidate_outcomes, baseline_outcomes, policy=policy, prior=prior, level=level)
    verdict, reason = _judge(evidence, guardrails, policy)
    clusters = evidence.clusters
    interval = evidence.interval
    return Decision(
        candidate_id=candidate.candidate_id,
        baseline_id=baseline.candidate_id,
        site_id=candidate.site_id,
        channel=channel,
        verdict=verdict,
        reason=reason,
        n_cases=evidence.n_cases,
        n_clusters=len(clusters),
        baseline_mean=sum(one.baseline for one in clusters) / len(clusters) if clusters else None,
        candidate_mean=sum(one.candidate for one in clusters) / len(clusters) if clusters else None,
        delta=None if interval is None else interval.estimate,
        low=None if interval is None else interval.low,
        high=None if interval is None else interval.high,
        e_value=evidence.e_value,
        alpha=level,
        guardrails=tuple(guardrails),
    )


def _gather(
    candidate_outcomes: Sequence[Outcome],
    baseline_outcomes: Sequence[Outcome],
    *,
    policy: GatePolicy,
    prior: PriorEvidence | None,
    level: float,
) -> _Evidence:
    prior = prior or PriorEvidence()
    tonight = pair(candidate_outcomes, baseline_outcomes, skip=prior.clusters)
    fresh = [one.difference for one in tonight.clusters.values()]
    earlier = [one.difference for one in prior.clusters.values()]
    everything = earlier + fresh
    e_value: float | None = None
    harm = 1.0
    if everything:
        path = e_process(fresh, margin=policy.min_effect, earlier=earlier)
        e_value = prior.e_value * (float(path[-1]) if fresh else 1.0)
        harm = float(e_process([-value for value in everything])[-1])
    clusters = [*prior.clusters.values(), *tonight.clusters.values()]
    return _Evidence(
        tonight=tonight,
        clusters=clusters,
        interval=paired_difference(
            [one.candidate for one in clusters],
            [one.baseline for one in clusters],
            [*prior.clusters, *tonight.clusters],
            level=policy.level,
            seed=policy.seed,
        ),
        e_value=e_value,
        harm=harm,
        level=level,
        nights=prior.nights + 1,
    )


def _judge(evidence: _Evidence, guardrails: Sequence[Guardrail], policy: GatePolicy) -> tuple[Verdict, str]:
    """Verdict and its sentence. The order is the contract: what must never happen comes before what was hoped for."""
    failed = [rail for rail in guardrails if rail.passed is False]
    if failed:
        return "BLOCKED", "A guardrail failed: " + _rails(failed) + "."
    tonight = evidence.tonight
    if tonight.n_cases:
        gap = (tonight.unscored_candidate - tonight.unscored_baseline) / tonight.n_cases
        if gap > policy.max_unscored_gap:
            return "BLOCKED", (
                f"The candidate went unscored on {tonight.unscored_candidate} of {tonight.n_cases} cases and the "
                f"baseline on {tonight.unscored_baseline}; a candidate must not gain by giving nothing to score."
            )
    if evidence.interval is None or evidence.e_value is None:
        return "UNDERPOWERED", (
            f"None of {tonight.n_cases} cases has a reward for both the candidate and the baseline, "
            "so there is nothing to compare."
        )
    if tonight.n_cases and tonight.unscored / tonight.n_cases > policy.max_unscored:
        return "UNDERPOWERED", (
            f"{tonight.unscored} of {tonight.n_cases} cases have no reward on one side, more than the "
            f"{policy.max_unscored:.0%} that may be missing before the rest stops standing for the whole."
        )
    unknown = [rail for rail in guardrails if rail.passed is None]
    if unknown:
        return "BLOCKED", "A guardrail could not be measured: " + _rails(unknown) + "."
    return _weigh(evidence, evidence.interval, evidence.e_value, policy)


def _weigh(evidence: _Evidence, interval: Interval, e_value: float, policy: GatePolicy) -> tuple[Verdict, str]:
    n = len(evidence.clusters)
    need = 1 / evidence.level
    seen = (
        f"{interval.estimate * 100:+.1f} points ({policy.level * 100:g} % interval "
        f"{interval.low * 100:+.1f} to {interval.high * 100:+.1f}) on {n} task groups"
    )
    if evidence.tonight.unscored:
        seen += f", {evidence.tonight.unscored} of {evidence.tonight.n_cases} cases unscored"
    proof = f"e-value {_number(e_value)} of the {_number(need)} needed"
    if n < policy.min_clusters:
        return "UNDERPOWERED", f"Only {n} task groups could be compared; the policy asks for {policy.min_clusters}."
    if e_value >= need:
        return "PROMOTE", f"Better than the baseline by {seen}; {proof}, every guardrail passed."
    if evidence.harm >= 1 / policy.harm_alpha:
        return "REJECT", f"Worse than the baseline: {seen}; e-value for harm {_number(evidence.harm)}."
    if interval.high < policy.wanted_effect:
        return "REJECT", (
            f"An effect of {policy.wanted_effect * 100:.1f} points or more is ruled out: {seen}; {proof}."
        )
    if evidence.nights >= policy.max_nights:
        return "REJECT", f"Not proven in {evidence.nights} nights: {seen}; {proof}."
    left = policy.max_nights - evidence.nights
    reachable = minimum_detectable_effect(
        _spread(evidence.clusters), n + evidence.n_fresh * left, alpha=evidence.level, power=policy.power
    )
    if reachable > max(policy.wanted_effect, interval.estimate) - policy.min_effect:
        return "UNDERPOWERED", (
            f"{seen[0].upper()}{seen[1:]}; {proof}. With {evidence.n_fresh} new task groups a night for {left} more "
            f"nights only {reachable * 100:.1f} points could be proven."
        )
    return "CONTINUE", f"Not decided yet: {seen}; {proof}. Up to {left} more nights may add new task groups."


def _spread(clusters: Sequence[ClusterPair]) -> float:
    """Standard deviation of the differences, with one differing cluster added: agreement so far is no certainty."""
    n = len(clusters)
    mean = sum(one.difference for one in clusters) / n
    return sqrt((sum((one.difference - mean) ** 2 for one in clusters) + 1) / (n + 1))


def _number(value: float) -> str:
    return f"{value:,.2f}" if value < 10 else f"{value:,.0f}" if value < 1e6 else f"{value:.1e}"


def _rails(rails: Sequence[Guardrail]) -> str:
    return "; ".join(f"{rail.name} ({rail.detail})" if rail.detail else rail.name for rail in rails)
