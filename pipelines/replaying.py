"""Artifacts on cases: replays through the cache and the budget, with every outcome a row of `evaluations`."""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from typing import Any, Self

from tracemill.ids import canonical_json, content_id
from tracemill.optimize.ladder import Grade
from tracemill.optimize.ladder.level import graded, summed
from tracemill.optimize.replay import Budget, CachedModel, Ledger, output_of
from tracemill.pipelines.endpoint import Endpoint
from tracemill.pipelines.night import Night, rows
from tracemill.protocols import ChatModel
from tracemill.records import Artifact, Candidate, Case, Completion, Outcome


def validity(night: Night) -> Callable[[Case, str], bool | None]:
    """Whether an output has the form that production needs: `[gate] valid_output`, else not empty."""
    pattern = night.config.gate.valid_output
    if pattern is None:
        return lambda case, output: bool(output.strip())
    form = re.compile(pattern)
    return lambda case, output: form.fullmatch(output.strip()) is not None


def budget(night: Night) -> Budget:
    settings = night.config.optimize
    return Budget(
        calls=settings.max_calls,
        tokens=settings.max_tokens,
        usd=settings.max_usd,
        seconds=settings.max_seconds,
    )


def cached(night: Night, chat: ChatModel, ledger: Ledger) -> CachedModel:
    """The model, its answers kept in the lake, its calls booked in an account."""
    return CachedModel(chat, night.answers, ledger, now_ns=night.clock())


def as_logged(
    cases: Sequence[Case], night: Night, grade: Grade, *, steps: Mapping[str, Sequence[int]] | None = None
) -> list[Outcome]:
    """Production's outcomes as the logs have them, for a production model that the endpoint does not serve.

    Judged by whoever judges replays, so that both sides are measured with one rule. `steps`: by case_id the calls that
    led to the logged output where these are several.
    """
    measured = night.select(
        "SELECT trajectory_id || '/' || step AS case_id, tokens_in, tokens_out, cost_usd, "
        "(latency_ms * 1e6)::BIGINT AS latency_ns FROM llm_calls WHERE trajectory_id IN (SELECT unnest(?::VARCHAR[]))",
        [case.trajectory_id for case in cases],
    )
    figures = {row.pop("case_id"): row for row in measured.to_pylist()}
    made = {case.case_id: (steps or {}).get(case.case_id, [case.step]) for case in cases}
    outcomes = graded(
        cases,
        [
            summed(
                [
                    Completion(text=case.logged_output, **figures.get(f"{case.trajectory_id}/{step}", {}))
                    for step in made[case.case_id]
                ]
            )
            for case in cases
        ],
        grade=grade,
        valid=validity(night),
        fidelity="logged",
    )
    return [replace(one, reached=len(made[one.case_id])) for one in outcomes]


def rejudged(outcomes: Sequence[Outcome], cases: Sequence[Case], grade: Grade) -> list[Outcome]:
    """The same answers with the rewards that others give them."""
    of = {case.case_id: case for case in cases}
    outputs = {place: output_of(one.completion) for place, one in enumerate(outcomes)}
    known = {place: output for place, output in outputs.items() if output is not None}
    marks = dict(zip(known, grade([(of[outcomes[place].case_id], out) for place, out in known.items()]), strict=True))
    return [replace(one, reward=marks[place].reward if place in marks else None) for place, one in enumerate(outcomes)]


class Recording:
    """A search's outcomes on their way to `evaluations`, written in one transaction with the answers they rest on.

    Use as a context, and search with its `night`: on leaving everything is written, errors included. A killed run lacks
    what came in within the last second: taken up again it asks for that, and writes it.
    """

    def __init__(self, night: Night, *, purpose: str) -> None:
        self._night = night
        self._purpose = purpose
        self._open = ExitStack()

    def __enter__(self) -> Self:
        self.night = self._open.enter_context(self._night.putting_off())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        self._open.__exit__(kind, error, trace)

    def add(self, candidate_id: str, outcomes: Sequence[Outcome]) -> None:
        later = self.night.later
        assert later is not None
        later.insert("evaluations", _evaluations(self.night, candidate_id, outcomes, purpose=self._purpose))


def record(night: Night, candidate_id: str, outcomes: Sequence[Outcome], *, purpose: str) -> int:
    """Writes outcomes as rows of `evaluations`; the same outcome of the same night is one row."""
    table = rows("evaluations", _evaluations(night, candidate_id, outcomes, purpose=purpose))
    with night.lake.transaction(f"{night.night_id}: evaluations {purpose}") as tx:
        return tx.insert("evaluations", table)


def _evaluations(night: Night, candidate_id: str, outcomes: Sequence[Outcome], *, purpose: str) -> list[dict[str, Any]]:
    return [
        {
            "evaluation_id": content_id(night.night_id, candidate_id, outcome.case_id, purpose),
            "candidate_id": candidate_id,
            "case_id": outcome.case_id,
            "task_group": outcome.task_group,
            "purpose": purpose,
            "output": outcome.completion.text,
            "reward": outcome.reward,
            "valid": outcome.valid,
            "error": outcome.completion.error,
            "tokens_in": outcome.completion.tokens_in,
            "tokens_out": outcome.completion.tokens_out,
            "cost_usd": outcome.completion.cost_usd,
            "latency_ns": outcome.completion.latency_ns,
            "cached": outcome.completion.cached,
            "fidelity": outcome.fidelity,
            "reached": outcome.reached,
            "judged_by": outcome.judged_by,
            "night_id": night.night_id,
            "at": night.clock(),
        }
        for outcome in outcomes
    ]


def write_candidate(night: Night, candidate: Candidate, *, snapshot: int) -> None:
    """A candidate as a row, as soon as it is found, or with what it rests on where the stage puts writing off.

    A killed run has lost nothing that was paid for more than a second ago.
    """
    row = {
        "candidate_id": candidate.candidate_id,
        "branch": candidate.branch,
        "site_id": candidate.site_id,
        "site_version": candidate.site_version,
        "optimizer": candidate.optimizer,
        "artifact": candidate.artifact.to_json(),
        "parent_id": candidate.parent_id,
        "lineage": list(candidate.lineage),
        "tune_score": candidate.tune_score,
        "tune_n": candidate.tune_n,
        "support": canonical_json([asdict(one) for one in candidate.support]) if candidate.support else None,
        "snapshot_id": snapshot,
        "night_id": night.night_id,
        "at": night.clock(),
    }
    if night.later is not None:
        night.later.insert("candidates", [row])
        return
    with night.lake.transaction(f"{night.night_id}: candidate {candidate.candidate_id[:8]}") as tx:
        tx.insert("candidates", rows("candidates", [row]))


def served_by(endpoint: Endpoint, artifact: Artifact) -> bool:
    """True where the endpoint serves the very model that the artifact is deployed with, at all its sites."""
    return endpoint.model is None or all(prompt.get("model") == endpoint.model for prompt in artifact.prompts)


def on_endpoint(endpoint: Endpoint, artifact: Artifact) -> Artifact:
    """The artifact as it runs on the endpoint: what candidates start from.

    Where production's model is another one, the endpoint's takes its place; sampling that the logs do not tell is the
    endpoint's.
    """
    if artifact.others:
        own, *others = (on_endpoint(endpoint, one) for one in artifact.apart.values())
        return replace(own, others={str(one.prompt["site_id"]): one.prompt for one in others})
    known = artifact.prompt.get("params") or {}
    params = {**endpoint.params, **known}
    if served_by(endpoint, artifact):
        return artifact if params == known else replace(artifact, prompt={**artifact.prompt, "params": params})
    return Artifact(prompt={**artifact.prompt, "model": endpoint.model, "adapter": None, "params": params})


def spread(cases: Sequence[Case], limit: int) -> tuple[Case, ...]:
    """At most `limit` cases, round-robin over task groups in the order given: many groups say more than repeats."""
    by_group: dict[str, list[Case]] = {}
    for case in cases:
        by_group.setdefault(case.task_group, []).append(case)
    chosen: list[Case] = []
    depth = 0
    while len(chosen) < min(limit, len(cases)):
        for group in by_group:
            if depth < len(by_group[group]) and len(chosen) < limit:
                chosen.append(by_group[group][depth])
        depth += 1
    return tuple(chosen)
