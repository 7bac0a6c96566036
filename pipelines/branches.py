"""The two ways to get better, run side by side: the prompt branch (DSPy) and the weights branch (TRL)."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from tracemill import train
from tracemill.errors import BudgetError
from tracemill.ids import canonical_json, content_id
from tracemill.optimize import choosing, headroom, optimizers, portfolio
from tracemill.optimize.replay import Ledger
from tracemill.optimize.search import PromptModel
from tracemill.pipelines import jointly, laddering, replaying, studying, teaching, turns
from tracemill.pipelines.endpoint import Endpoint, capable, ensure_adapter
from tracemill.pipelines.learning import Lesson
from tracemill.pipelines.night import Night
from tracemill.pipelines.turns import Turn
from tracemill.protocols import Optimizer
from tracemill.records import Artifact, Candidate, Case, Outcome
from tracemill.train import datums, models


def first_turn(night: Night, lesson: Lesson) -> Turn:
    """A step that goes on from production, with an account of its own."""
    return Turn(base=lesson.production, ledger=Ledger(replaying.budget(night)))


def search_prompts(
    night: Night, lesson: Lesson, endpoint: Endpoint, turn: Turn | None = None
) -> tuple[list[Candidate], Mapping[str, Any]]:
    """Candidates of the prompt branch and what the search cost; each is a row before the next is tried.

    The first is what the search began with: `turn.base`, by default production.
    """
    turn = turn or first_turn(night, lesson)
    with replaying.Recording(night, purpose="tune") as recording, turn.ledger.lent(turn.share):
        if lesson.others:
            reflection = writer(recording.night, turn.ledger)
            searches = _searches(night, reflection)
            return jointly.search(lesson, endpoint, turn.ledger, recording, searches, written=reflection is not None)
        return _search(night, lesson, endpoint, turn, recording)


def _search(
    night: Night, lesson: Lesson, endpoint: Endpoint, turn: Turn, recording: replaying.Recording
) -> tuple[list[Candidate], Mapping[str, Any]]:
    night, settings = recording.night, night.config.optimize
    if not lesson.verifiable:
        return [], {"status": "skipped", "skipped": "no level of the ladder can judge a replay of this site"}
    start = replaying.on_endpoint(endpoint, turn.base.artifact)
    begun = replace(turn.base, artifact=start)
    production = replaying.on_endpoint(endpoint, lesson.production.artifact)
    ensure_adapter(endpoint, start)
    replay = laddering.for_tuning(night, lesson, endpoint, start, turn.ledger)
    reflection = writer(night, replay.ledger)
    searches = _searches(night, reflection)
    failed: dict[str, str] = {}

    def evaluate(artifact: Artifact, cases: Sequence[Case]) -> list[Outcome]:
        outcomes = replay(artifact, cases)
        tried = replace(begun, branch=turns.branch_of(production, artifact), artifact=artifact)
        recording.add((begun if artifact == start else tried).candidate_id, outcomes)
        night.tell("optimize", "model calls", replay.ledger.spent.calls, settings.max_calls)
        return outcomes

    def grown(candidate: Candidate) -> Candidate:
        return turns.grown(begun, candidate, turns.branch_of(production, candidate.artifact))

    def found(candidate: Candidate) -> None:
        candidate = grown(candidate)
        replaying.write_candidate(night, candidate, snapshot=lesson.snapshot)
        score = "–" if candidate.tune_score is None else f"{candidate.tune_score:.2f}"
        night.tell("optimize", f"{candidate.optimizer}: {score} on {candidate.tune_n} tuning cases")

    study = studying.study(night, lesson, start, evaluate)
    room_found: Mapping[str, Any] = {}
    if settings.headroom:
        wanted = night.config.gate.wanted_effect
        room = headroom.measure(study, wanted=wanted, seed=night.config.seed, written=reflection is not None)
        # What is left above another prompt or other weights says nothing of the site: the night's order goes by that.
        measured = "headroom" if turn.base.branch == "production" else "headroom_left"
        room_found = {"site_version": lesson.site.site_version, measured: room.gain and asdict(room.gain)}
        if not room.worth(wanted):
            skipped = {"status": "skipped", "skipped": room.sentence(wanted), "calls": replay.ledger.spent.calls}
            return [], {**skipped, **room_found}
    race = portfolio.run(
        study,
        searches,
        on_candidate=found,
        on_error=lambda name, error: failed.update({name: f"{type(error).__name__}: {error}"}),
        ledger=replay.ledger,
        backing=portfolio.Backing(line=settings.min_users, demonstration=settings.min_demonstration_users),
    )
    candidates, spent = [grown(one) for one in race.candidates], replay.ledger.spent
    detail: dict[str, Any] = {"candidates": len(candidates), "calls": spent.calls, "cached": spent.cached}
    detail.update(room_found, usd=spent.usd)
    detail["race"] = [asdict(one) for one in race.standings]
    if failed:
        detail["failed"] = failed
    running, *new = candidates
    behind = choosing.not_better(new, running=running)
    if behind is not None:
        detail["left_out"] = behind
    return candidates, detail


def _searches(night: Night, reflection: PromptModel | None) -> list[Optimizer]:
    settings = night.config.optimize
    return [
        optimizers.build(
            name,
            seed=night.config.seed,
            reflection=reflection,
            tool_descriptions=settings.tool_descriptions,
            **dict(settings.options.get(name, {})),
        )
        for name in settings.optimizers
    ]


def writer(night: Night, ledger: Ledger) -> PromptModel | None:
    """The capable model that `gepa` and `mipro` write prompts with; its calls count in the branch's budget."""
    name = night.config.optimize.reflection_model
    if name is None:
        return None
    return PromptModel(chat=replaying.cached(night, capable(night, name), ledger), name=name)


def weights_in_turn(
    night: Night, lesson: Lesson, endpoint: Endpoint, turn: Turn
) -> tuple[list[Candidate], Mapping[str, Any]]:
    """`train_weights` from `turn.base`, with what tonight's prompts were right about (`[train] hand_over`).

    Where steps go on from one another, what it began with comes before the adapter, both tried on the tuning cases.
    """
    deployed = replaying.on_endpoint(endpoint, turn.base.artifact)
    scored: list[Candidate] = []

    def tried(candidate: Candidate) -> Candidate:
        scored[:] = [turn.base, candidate] if turn.apart else [candidate]
        if turn.apart:
            with suppress(BudgetError):  # what was trained is kept all the same
                scored[:] = turns.tried(night, lesson, endpoint, turn, candidate)
        return scored[-1]

    def taught(cases: Sequence[Case]) -> teaching.Taught:
        return teaching.taught(night, lesson, endpoint, turn, cases)

    candidate, detail = train_weights(
        night,
        lesson,
        deployed,
        parent=turn.base,
        cases=lesson.train if turn.apart else lesson.learn,
        taught=taught if night.config.train.hand_over else None,
        tried=tried,
    )
    return ([], detail) if candidate is None else (scored, {**detail, "tune_score": candidate.tune_score})


def train_weights(
    night: Night,
    lesson: Lesson,
    deployed: Artifact,
    *,
    parent: Candidate | None = None,
    cases: Sequence[Case] | None = None,
    taught: Callable[[Sequence[Case]], teaching.Taught] | None = None,
    tried: Callable[[Candidate], Candidate] | None = None,
) -> tuple[Candidate | None, Mapping[str, Any]]:
    """The adapter of the weights branch as a candidate, or None with the reason in the detail that comes along.

    `deployed` is the prompt that it is for, on the model that it is for (replaying.on_endpoint): that of `parent`, by
    default production. `cases`: of the lesson, by default all. `taught` finds right answers that the log does not know,
    for training that learns from such. `tried` may give the candidate a tuning score before it is written.
    """
    settings = night.config.train
    if settings.base_model is None:
        return None, {"skipped": "[train] base_model is not set"}
    night.tell("train", "loading the base model")
    cache = night.config.work_path / "models"
    base_model = night.config.model(settings.base_model)
    base = models.resolve(base_model, cache)
    production, parent = lesson.production.artifact, parent or lesson.production
    logged = transitions(night, lesson)
    trainer = choose_trainer(night, lesson, logged)
    cases = lesson.learn if cases is None else cases
    if trainer == "grpo":
        # Importance weights correct small differences: what another policy said is no evidence about this one.
        own = set(_drawn_by(production, logged))
        cases = tuple(case for case in cases if case.case_id in own)
    found = teaching.Taught() if taught is None or trainer != "sft" else taught(cases)
    rows = datums.build(
        cases,
        deployed,
        kind="grpo" if trainer == "grpo" else "sft",
        model_folder=base,
        transitions=logged,
        max_tokens=settings.max_tokens,
        answers=found.answers,
    )
    detail: dict[str, Any] = {"trainer": trainer, "rows": rows.table.num_rows, "dropped": dict(rows.dropped)}
    handed = [case for case in rows.table["case_id"].to_pylist() if case in found.answers]
    if taught is not None:
        detail["handed_over"] = len(handed)
    if rows.table.num_rows < settings.min_rows:
        lost = ", ".join(f"{reason} {count}" for reason, count in rows.dropped.items()) or "none"
        detail["skipped"] = f"{rows.table.num_rows} rows to train on, {settings.min_rows} needed; dropped: {lost}"
        return None, detail
    options = dict(settings.options.get(trainer, {}))
    start = None if production.adapter_path is None else Path(production.adapter_path)
    run_id = content_id(
        trainer, base.name, options, start and start.name, night.config.seed, canonical_json(rows.table.to_pylist())
    )
    folder = night.config.work_path / "train" / run_id
    result = train.launch(
        train.TrainJob(
            trainer=trainer,
            base_model=base_model,
            cache=cache,
            datums=rows.write(folder / "datums.parquet"),
            out=folder / "run",
            options=options,
            init_adapter=start,
            seed=night.config.seed,
            threads=settings.threads,
            snapshot_id=lesson.snapshot,
        ),
        on_progress=lambda step: night.tell(
            "train", f"{trainer} steps", int(step.get("step", 0)), int(step.get("steps", 0)) or None
        ),
    )
    detail.update(result.metrics, seconds=result.seconds)
    if result.adapter is None or result.content_hash is None:
        detail["skipped"] = result.nothing_to_learn
        return None, detail
    behind = [*rows.table["trajectory_id"].to_pylist(), *parent.lineage]
    candidate = Candidate(
        branch="together" if parent.branch in ("prompt", "together") else "weights",
        site_id=lesson.site.site_id,
        site_version=lesson.site.site_version,
        optimizer=trainer,
        artifact=Artifact(
            others=deployed.others,
            prompt={
                **deployed.prompt,
                "adapter": f"{lesson.site.agent_name or 'site'}-{result.content_hash[:8]}".replace("/", "-"),
            },
            adapter_path=str(result.adapter),
        ),
        parent_id=parent.candidate_id,
        lineage=tuple(dict.fromkeys([*behind, *(name for case in handed for name in found.lineage[case])])),
        support=parent.support,
    )
    candidate = candidate if tried is None else tried(candidate)
    replaying.write_candidate(night, candidate, snapshot=lesson.snapshot)
    return candidate, detail


def transitions(night: Night, lesson: Lesson) -> pa.Table:
    """The logged calls of the lesson's cases, with token ids and log-probabilities where they were logged."""
    return night.select(
        "SELECT * FROM transitions WHERE site_id = ? AND trajectory_id || '/' || step IN (SELECT unnest(?))",
        lesson.site.site_id,
        [case.case_id for case in lesson.learn],
        snapshot=lesson.snapshot,
    )


def choose_trainer(night: Night, lesson: Lesson, logged: pa.Table) -> str:
    """The configured trainer. `auto`: offline GRPO once tuned weights have logged log-probabilities, else SFT."""
    wanted = night.config.train.trainer
    if wanted != "auto":
        return wanted
    artifact = lesson.production.artifact
    enough = len(_drawn_by(artifact, logged)) >= night.config.train.min_rows
    return "grpo" if artifact.adapter_path and enough else "sft"


def _drawn_by(artifact: Artifact, logged: pa.Table) -> list[str]:
    """Ids of the cases that this very policy answered, with its log-probabilities."""
    rows = logged.select(["trajectory_id", "step", "model", "output_logprobs"]).to_pylist()
    return [
        f"{row['trajectory_id']}/{row['step']}"
        for row in rows
        if row["output_logprobs"] and row["model"] == artifact.model
    ]


def tuning_rewards(night: Night, found: Sequence[Candidate]) -> Mapping[str, choosing.Rewards]:
    """What tonight's tuning found, by candidate and case: also where it was interrupted and taken up again."""
    known: dict[str, dict[str, tuple[str, float]]] = {}
    for row in night.select(_TUNED, night.night_id, [one.candidate_id for one in found]).to_pylist():
        known.setdefault(row["candidate_id"], {})[row["case_id"]] = (row["task_group"], row["reward"])
    return known


_TUNED = """
SELECT candidate_id, case_id, task_group, reward FROM evaluations
WHERE purpose = 'tune' AND reward IS NOT NULL AND night_id = ? AND candidate_id IN (SELECT unnest(?::VARCHAR[]))
"""
