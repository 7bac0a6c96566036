"""Hand-over: right answers that tonight's prompts gave, where the log has none, for weights to learn from.

DSPy's BootstrapFinetune trains on what its metric accepts. Here an answer teaches where it is as right as a logged one
has to be (Case.expected): worth all of the reward, and surely so.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from tracemill.errors import BudgetError
from tracemill.optimize.search import shuffled
from tracemill.pipelines import grading, laddering, replaying
from tracemill.pipelines.endpoint import Endpoint, ensure_adapter
from tracemill.pipelines.learning import Lesson
from tracemill.pipelines.night import Night
from tracemill.pipelines.turns import Turn
from tracemill.records import SURE, Case

_AT_ONCE = 32
"""Cases whose answers are judged and written before the next are asked for; what a used-up budget leaves is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taught:
    """Right answers that the log does not know."""

    answers: Mapping[str, str] = field(default_factory=dict)
    """By case_id."""
    lineage: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By case_id: the episodes that the prompt which gave the answer was made from."""


def taught(night: Night, lesson: Lesson, endpoint: Endpoint, turn: Turn, cases: Sequence[Case]) -> Taught:
    """Answers to those of the `cases` of the learn pool whose right one the log does not have.

    First what tonight's search recorded anyway, then what the turn's teacher answers to the rest, as far as the account
    reaches. Only replays that are evidence count, of one call each: what a row teaches is an answer to the logged call.
    """
    unknown = [
        case
        for case in cases
        if case.expected is None and case.case_id in lesson.judgeable and not case.calls_tools  # rows teach text
    ]
    start = replaying.on_endpoint(endpoint, turn.base.artifact)
    replay = laddering.for_tuning(night, lesson, endpoint, start, turn.ledger)
    known = _recorded(night, lesson, turn, unknown, replay.graders)
    left = shuffled([case for case in unknown if case.case_id not in known.answers], night.config.seed)
    if turn.teacher is None or not left:
        return known
    artifact = replaying.on_endpoint(endpoint, turn.teacher.artifact)
    ensure_adapter(endpoint, artifact)
    with replaying.Recording(night, purpose="tune") as recording, suppress(BudgetError), turn.ledger.lent(turn.asking):
        for first in range(0, len(left), _AT_ONCE):
            night.tell("train", "asking the best prompt for right answers", first, len(left))
            recording.add(turn.teacher.candidate_id, replay(artifact, left[first : first + _AT_ONCE]))
    return _recorded(night, lesson, turn, unknown, replay.graders)


def _recorded(night: Night, lesson: Lesson, turn: Turn, cases: Sequence[Case], graders: grading.Graders) -> Taught:
    """What tonight's replays of the cases were right about: the teacher's word first, then the best prompt's."""
    of = {case.case_id: case for case in cases}
    teacher = None if turn.teacher is None else turn.teacher.candidate_id
    rows = night.select(_RIGHT, night.night_id, lesson.site.site_id, list(of), SURE, teacher).to_pylist()
    # Tuning rewards are lower bounds; what is right is worth all of the reward, too.
    whole = replace(graders, cautious=False)
    alone = [row for row in rows if row["fidelity"] == "single_step"]
    marks = whole.alone([(of[row["case_id"]], row["output"]) for row in alone])
    full = {id(row) for row, mark in zip(alone, marks, strict=True) if (mark.reward or 0.0) >= 1.0}
    answers: dict[str, str] = {}
    lineage: dict[str, tuple[str, ...]] = {}
    for row in rows:
        right = id(row) in full if row["fidelity"] == "single_step" else row["reward"] >= 1.0
        if right and row["case_id"] not in answers:
            answers[row["case_id"]] = row["output"]
            lineage[row["case_id"]] = tuple(row["lineage"] or ())
    return Taught(answers=answers, lineage=lineage)


_RIGHT = """
SELECT e.case_id, e.output, e.fidelity, e.reward, c.lineage
FROM evaluations e JOIN candidates c USING (candidate_id)
WHERE e.night_id = ? AND c.site_id = ? AND e.purpose = 'tune' AND e.case_id IN (SELECT unnest(?::VARCHAR[]))
    AND e.fidelity IN ('single_step', 'executed') AND e.reached = 1 AND e.error IS NULL AND e.reward >= ?
    AND trim(e.output) <> ''
ORDER BY e.case_id, (e.candidate_id = ?) DESC NULLS LAST, c.tune_score DESC NULLS LAST, c.candidate_id
"""
"""Answers of prompts that were written as candidates: what else a search tried has no lineage."""
