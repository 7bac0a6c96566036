"""Level 3: an episode of several calls, replayed call by call with the results that its tools gave in the log."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tracemill.chat import answer_text
from tracemill.optimize.ladder.level import Grade, Valid, astray, graded, kept_with, summed, unknown
from tracemill.optimize.ladder.tape import Tape, spoken, turns
from tracemill.optimize.replay import request_for
from tracemill.protocols import ChatModel
from tracemill.records import Artifact, Case, ChatMessage, ChatRequest, Completion, Episode, Fidelity, Outcome

Episodes = Callable[[Sequence[Case]], Mapping[str, Episode]]
"""Logged episodes of cases, by trajectory; those that cannot be replayed as a whole are missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """Replays all episodes of the cases at once, each from its first call at the site.

    An episode that goes on as its log does (tape.Tape) to its end has a final answer, which `grade` judges: fidelity
    `recorded:exact` or `recorded:equivalent`. Where the model leaves the log the replay stops: `recorded:divergent`,
    without a reward. `reached` counts the calls that were made. Cases of one episode have one replay.
    """

    model: ChatModel
    """Cached and budgeted: replay.CachedModel."""
    episodes: Episodes
    grade: Grade
    """Of final answers: the case that it is given is that of the episode's last call."""
    valid: Valid
    read_only: frozenset[str] = frozenset()
    """Tools that change nothing."""
    seed: int | None = 0

    @property
    def fidelity(self) -> Fidelity:
        return "recorded:exact"

    def __call__(self, artifact: Artifact, cases: Sequence[Case]) -> list[Outcome]:
        known = self.episodes(cases)
        replays: dict[str, _Replay] = {}
        for case in cases:
            episode = known.get(case.trajectory_id)
            if episode is not None and case.trajectory_id not in replays:
                replays[case.trajectory_id] = _Replay.of(artifact, case, episode, self.read_only, self.seed)
        while asking := [one for one in replays.values() if one.request is not None]:
            requests = [one.request for one in asking if one.request is not None]
            for one, answer in zip(asking, self.model.complete(requests), strict=True):
                one.hear(answer)
        return self._outcomes(cases, replays)

    def _outcomes(self, cases: Sequence[Case], replays: Mapping[str, "_Replay"]) -> list[Outcome]:
        ended = [one for one in replays.values() if one.ended]
        completions = [summed(one.answers) for one in ended]
        judged = graded([one.last for one in ended], completions, grade=self.grade, valid=self.valid, fidelity="logged")
        final = {one.case.trajectory_id: outcome for one, outcome in zip(ended, judged, strict=True)}
        return [self._outcome(case, replays.get(case.trajectory_id), final) for case in cases]

    def _outcome(self, case: Case, replay: "_Replay | None", final: Mapping[str, Outcome]) -> Outcome:
        if replay is None:
            return unknown(case, "the log does not tell the whole episode", fidelity="recorded:divergent")
        if not replay.answers:
            return unknown(case, replay.broken or "no call was made", fidelity="recorded:divergent")
        if replay.ended:
            fidelity: Fidelity = "recorded:exact" if replay.tape.exact else "recorded:equivalent"
            judged = final[case.trajectory_id]
            reached, way = len(replay.answers), tuple(replay.way)
            return replace(judged, case_id=case.case_id, fidelity=fidelity, reached=reached, way=way)
        return astray(
            case,
            summed(replay.answers),
            replay.broken,
            fidelity="recorded:divergent",
            reached=len(replay.answers),
            way=tuple(replay.way),
        )


def final_case(case: Case, episode: Episode) -> Case:
    """The case as that of the episode's last call: what a final answer is judged as."""
    end = episode.calls[-1]
    return replace(
        case,
        step=end.step,
        values=end.values,
        logged_output=answer_text(end.answer),
        calls_tools=any(message.get("tool_calls") for message in end.answer),
        # What was corrected is one call; only the correction of the last one is about the final answer.
        correction=case.correction if case.step == end.step else None,
    )


@dataclass(slots=True, kw_only=True)
class _Replay:
    """One episode on its way."""

    artifact: Artifact
    case: Case
    last: Case
    """What the final answer is judged as."""
    tape: Tape
    seed: int | None
    values: Mapping[str, object]
    talk: list[ChatMessage] | None
    """The conversation so far; None where the prompt has none."""
    request: ChatRequest | None = None
    answers: list[Completion] = field(default_factory=list)
    way: list[ChatMessage] = field(default_factory=list)
    ended: bool = False
    broken: str | None = None

    @classmethod
    def of(
        cls, artifact: Artifact, case: Case, episode: Episode, read_only: frozenset[str], seed: int | None
    ) -> "_Replay":
        tape = Tape(turns=turns(episode), read_only=read_only)
        first = episode.calls[0]
        begun = first.values.get("conversation")
        made = cls(
            artifact=artifact,
            case=case,
            last=final_case(case, episode),
            tape=tape,
            seed=seed,
            values=first.values,
            talk=list(begun) if isinstance(begun, list) else None,
        )
        made._ask()
        return made

    def hear(self, answer: Completion) -> None:
        self.request = None
        self.answers.append(answer)
        if answer.error is not None:
            self.broken = answer.error
            return
        step = self.tape.follow(answer)
        self.way += step.messages or (spoken(answer),)
        self.ended = step.ended
        if step.ended or step.astray is not None:
            return
        if len(self.answers) >= 2 * len(self.tape.turns) + 2:  # calls that change nothing could go on for ever
            return
        if step.values is not None:
            self.values = step.values
            begun = step.values.get("conversation")
            self.talk = list(begun) if isinstance(begun, list) else None
        elif self.talk is not None:
            self.talk += step.messages
        self._ask()

    def _ask(self) -> None:
        values = self.values if self.talk is None else {**self.values, "conversation": list(self.talk)}
        try:
            request = request_for(self.artifact, replace(self.case, values=values), seed=self.seed)
            self.request = kept_with(self.case, request)
        except KeyError as error:
            self.broken = f"the case does not fill the prompt: {error.args[0]}"
