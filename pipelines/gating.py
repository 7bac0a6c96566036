"""The gate: production and the winners of both branches on the same cases, which nothing before has seen."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from tracemill.ids import canonical_json, content_id
from tracemill.mining import cases as mined_cases
from tracemill.optimize.ladder import Grade
from tracemill.pipelines import grading, laddering, releasing, replaying, systems
from tracemill.pipelines.endpoint import Endpoint, ensure_adapter
from tracemill.pipelines.learning import Lesson
from tracemill.pipelines.night import Night, rows
from tracemill.promote import gate, guardrails, sealed
from tracemill.promote.evidence import PriorEvidence
from tracemill.promote.wealth import Wealth
from tracemill.records import Candidate, Case, Decision, Guardrail, Outcome


def policy(night: Night) -> gate.GatePolicy:
    settings = night.config.gate
    return gate.GatePolicy(
        alpha=settings.alpha,
        wanted_effect=settings.wanted_effect,
        max_nights=settings.max_nights,
    )


def judge(night: Night, lesson: Lesson, winners: Sequence[Candidate], endpoint: Endpoint) -> list[Decision]:
    """One verdict per winner, each a row with the evaluations it rests on."""
    if not winners:
        return []
    cases = gate_cases(night, lesson, winners)
    # Labels that come in meanwhile would make another judge of it: both sides have the same ones.
    graders = grading.graders(night, lesson.site, endpoint, stage="gate", cautious=False)
    unseen = grading.sealed(night, lesson.site, endpoint)
    silent = [f"The sealed {name} was not asked: {why}." for name, why in unseen.silent.items()]
    for said in silent:
        night.tell("gate", said)
    baseline = _production_outcomes(night, lesson, cases, endpoint, graders)
    replaying.write_candidate(night, lesson.production, snapshot=lesson.snapshot)
    replaying.record(night, lesson.production.candidate_id, baseline, purpose="gate")
    wary, decisions = replace(graders, cautious=True), []
    for done, candidate in enumerate(winners):
        night.tell("gate", "judging candidates", done, len(winners))
        outcomes = _comparable(_outcomes(night, lesson, candidate, cases, endpoint, wary), baseline)
        replaying.record(night, candidate.candidate_id, outcomes, purpose="gate")
        rails = _sealed(night, cases, outcomes, baseline, unseen.grades)
        decisions.append(decide(night, lesson, candidate, outcomes, baseline, rails, remarks=silent))
    night.tell("gate", "judging candidates", len(winners), len(winners))
    return decisions


def undecided(night: Night, lesson: Lesson, winners: Sequence[Candidate]) -> list[Candidate]:
    """Candidates of earlier nights whose test goes on tonight beside the `winners`, at most one per branch.

    That is the newest one whose last verdict against what production runs now is CONTINUE, where it has nights left
    and the gate has task groups that it was never judged on. Without such groups it waits, and no night is counted.
    """
    channel = night.config.channel(lesson.site.agent_name)
    last = night.select(_UNDECIDED, channel, lesson.site.site_id, lesson.production.candidate_id)
    kept: dict[str, Candidate] = {}
    for row in last.to_pylist():
        candidate = releasing.find_candidate(night, row["candidate_id"])
        if candidate.branch in kept or row["nights"] >= night.config.gate.max_nights:
            continue
        path = candidate.artifact.adapter_path
        if (path is None or Path(path).is_dir()) and _fresh(night, lesson, candidate):
            kept[candidate.branch] = candidate
    tonight = {one.candidate_id for one in winners}
    return [one for one in kept.values() if one.candidate_id not in tonight]


def _fresh(night: Night, lesson: Lesson, candidate: Candidate) -> bool:
    cases = gate_cases(night, lesson, [candidate])
    return bool({case.task_group for case in cases} - _judged_on(night, [candidate]))


def gate_cases(night: Night, lesson: Lesson, winners: Sequence[Candidate]) -> tuple[Case, ...]:
    """Judged cases of the gate pool, at most `[gate] max_cases`, spread over task groups and newest first.

    Where replays of some of them can be judged, only these: the others would say nothing of either side.

    Groups on which none of the winners was judged on an earlier night come before all others: evidence that goes on
    from night to night counts a group once.
    """
    with night.learner(lesson.snapshot) as con:
        cases = mined_cases.load(con, lesson.site, pool="gate")
    spent = _judged_on(night, winners)
    known = [case for case in reversed(cases) if case.reward is not None or case.correction is not None]
    can = grading.verifiable(night, lesson.site, chained=bool(lesson.others))
    known = [case for case in known if can(case)] or known
    if lesson.others:
        known = systems.ending(systems.chains(night, lesson)(known), known)
    known.sort(key=lambda case: case.task_group in spent)
    return replaying.spread(known, night.config.gate.max_cases)


def _judged_on(night: Night, candidates: Sequence[Candidate]) -> frozenset[str]:
    """Task groups of earlier nights' evidence on any of the candidates."""
    found = night.select(
        "SELECT DISTINCT task_group FROM evaluations "
        "WHERE purpose = 'gate' AND night_id <> ? AND candidate_id IN (SELECT unnest(?::VARCHAR[]))",
        night.night_id,
        [one.candidate_id for one in candidates],
    )
    return frozenset(found["task_group"].to_pylist())


def decide(
    night: Night,
    lesson: Lesson,
    candidate: Candidate,
    outcomes: Sequence[Outcome],
    baseline: Sequence[Outcome],
    unseen: Sequence[Guardrail] = (),
    *,
    remarks: Sequence[str] = (),
) -> Decision:
    """Guardrails first, then the verdict under what is left of the deployment's budget of false promotions.

    `unseen`: guardrails of the judges that no optimizer has seen. `remarks`: sentences that its reason ends with.
    """
    rules = policy(night)
    rails = guardrails.GuardrailPolicy(max_latency_ratio=night.config.gate.latency_ratio)
    logged = [text for one in (lesson, *lesson.others) for case in one.learn for text in _said(case)]
    checks = guardrails.check(candidate, lesson.production, outcomes, baseline, logged_texts=logged, policy=rails)
    channel = night.config.channel(lesson.site.agent_name)
    past = night.select("SELECT * FROM verdicts")
    decision = gate.decide(
        candidate,
        lesson.production,
        outcomes,
        baseline,
        policy=rules,
        wealth=Wealth.from_verdicts(past, channel=channel),
        guardrails=(*checks, *unseen),
        channel=channel,
        prior=PriorEvidence.from_rows(
            past,
            night.select("SELECT * FROM evaluations WHERE purpose = 'gate'"),
            candidate_id=candidate.candidate_id,
            baseline_id=lesson.production.candidate_id,
            channel=channel,
        ),
    )
    decision = replace(decision, reason=" ".join([decision.reason, *remarks]))
    with night.lake.transaction(f"{night.night_id}: verdict {decision.verdict}") as tx:
        tx.insert("verdicts", rows("verdicts", [verdict_row(night, decision, lesson.snapshot)]))
    return decision


def _sealed(
    night: Night,
    cases: Sequence[Case],
    outcomes: Sequence[Outcome],
    baseline: Sequence[Outcome],
    grades: Mapping[str, Grade],
) -> list[Guardrail]:
    """What each sealed reward model makes of the same answers; none of those that cannot judge this site."""
    found = (
        sealed.check(
            name,
            outcomes,
            baseline,
            *(replaying.rejudged(side, cases, grade) for side in (outcomes, baseline)),
            max_gap=night.config.gate.max_sealed_gap,
        )
        for name, grade in grades.items()
    )
    return [rail for rail in found if rail is not None]


def _said(case: Case) -> Iterator[str]:
    """What a user wrote in a case: its slot values, and the turns of a conversation that are not the model's own."""
    for value in case.values.values():
        if isinstance(value, str):
            yield value
            continue
        for turn in value:
            if turn.get("role") != "assistant" and isinstance(turn.get("content"), str):
                yield turn["content"]


def verdict_row(night: Night, decision: Decision, snapshot: int) -> dict[str, object]:
    values = asdict(decision)
    values["guardrails"] = canonical_json(values["guardrails"])
    return {
        "verdict_id": content_id(night.night_id, decision.candidate_id, decision.channel),
        "snapshot_id": snapshot,
        "night_id": night.night_id,
        "at": night.clock(),
        **values,
    }


def _production_outcomes(
    night: Night, lesson: Lesson, cases: Sequence[Case], endpoint: Endpoint, graders: grading.Graders
) -> list[Outcome]:
    if replaying.served_by(endpoint, lesson.production.artifact):
        # Sampled as the candidates are, also where the logs do not tell how production samples.
        running = replace(lesson.production, artifact=replaying.on_endpoint(endpoint, lesson.production.artifact))
        return _outcomes(night, lesson, running, cases, endpoint, graders)
    return laddering.logged(night, lesson, cases, graders)


def _comparable(outcomes: Sequence[Outcome], baseline: Sequence[Outcome]) -> list[Outcome]:
    """Without the rewards that another judge gave than production's answer has: nobody chooses the own judge.

    An environment may stand against the verifiers that judge what production logged: both find out what is true. Not
    against a model: what that says, and that an answer is as good as itself, is on another scale.
    """
    known = {one.case_id: one for one in baseline}

    def alike(one: Outcome) -> bool:
        other = known.get(one.case_id)
        if other is None or other.judged_by is None or one.judged_by is None:
            return True
        if (one.fidelity, other.fidelity) == ("executed", "logged"):
            return not other.judged_by.startswith("judge:")
        return one.judged_by == other.judged_by

    return [one if alike(one) else replace(one, reward=None) for one in outcomes]


def _outcomes(
    night: Night,
    lesson: Lesson,
    candidate: Candidate,
    cases: Sequence[Case],
    endpoint: Endpoint,
    graders: grading.Graders,
) -> list[Outcome]:
    ensure_adapter(endpoint, candidate.artifact)
    return laddering.for_the_gate(night, lesson, endpoint, graders)(candidate.artifact, cases)


_UNDECIDED = """
SELECT candidate_id, count(DISTINCT night_id) FILTER (e_value IS NOT NULL) AS nights
FROM verdicts WHERE channel = ? AND site_id = ? AND baseline_id = ?
GROUP BY candidate_id HAVING arg_max(verdict, "at") = 'CONTINUE' ORDER BY max("at") DESC
"""
"""Candidates whose last verdict on a channel, about a site, against a baseline is CONTINUE, newest first."""
