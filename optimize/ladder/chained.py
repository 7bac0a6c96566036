"""Level 3 for several sites: a whole episode, each call with the prompt of its site and the new answers before it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tracemill.ids import canonical_json
from tracemill.optimize.ladder.level import Grade, Valid, astray, graded, summed, unknown
from tracemill.optimize.ladder.tape import key_of, spoken
from tracemill.optimize.replay import request_for
from tracemill.protocols import ChatModel
from tracemill.records import Artifact, Case, Chain, ChainedCall, ChatRequest, Completion, Fidelity, Outcome

Chains = Callable[[Sequence[Case]], Mapping[str, Chain]]
"""Episodes of cases over all their sites, by trajectory; those that cannot be replayed as a whole are missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chained:
    """Replays all episodes of the cases at once, each over all its sites.

    A call is sent what the log has, but for earlier answers that turned out otherwise: the new ones stand in the places
    where the log shows the old ones. `chained:exact` where none did, else `chained:substituted`. Where the log does not
    show wherever an answer went, or other tools are called than in the log, the replay stops: `chained:divergent`,
    without a reward. The last answer is judged, as that of the case which ended the episode; what came of a case on the
    way is its own answer with that reward. `reached` counts the calls that were made. Cases of one episode have one
    replay.
    """

    model: ChatModel
    """Cached and budgeted: replay.CachedModel."""
    chains: Chains
    held: Mapping[str, Artifact]
    """By site_id, what sites run that are optimised too, where the artifact under trial has no prompt of theirs."""
    others: Mapping[str, Artifact] = field(default_factory=dict)
    """By site_id, what all other sites run: they answer as logged to what was sent in the log."""
    ends: Mapping[str, Case] = field(default_factory=dict)
    """By trajectory, the case that ended it; a case that is not there ended its own."""
    grade: Grade
    valid: Valid
    seed: int | None = 0

    @property
    def fidelity(self) -> Fidelity:
        return "chained:exact"

    def __call__(self, artifact: Artifact, cases: Sequence[Case]) -> list[Outcome]:
        tried = {**self.held, **artifact.apart}
        known = self.chains(cases)
        replays: dict[str, _Replay] = {}
        for case in cases:
            chain, end = known.get(case.trajectory_id), self.ends.get(case.trajectory_id, case)
            if chain is not None and chain.calls[-1].step == end.step and case.trajectory_id not in replays:
                made = _Replay(chain=chain, end=end, tried=tried, others=self.others, seed=self.seed)
                made.go_on()
                replays[case.trajectory_id] = made
        while asking := [one for one in replays.values() if one.request is not None]:
            requests = [one.request for one in asking if one.request is not None]
            for one, answer in zip(asking, self.model.complete(requests), strict=True):
                one.hear(answer)
        ended = [one for one in replays.values() if one.ended]
        completions = [summed(list(one.answers.values())) for one in ended]
        judged = graded([one.end for one in ended], completions, grade=self.grade, valid=self.valid, fidelity="logged")
        final = {one.end.trajectory_id: outcome for one, outcome in zip(ended, judged, strict=True)}
        return [_outcome(case, replays.get(case.trajectory_id), final) for case in cases]


def _outcome(case: Case, replay: "_Replay | None", final: Mapping[str, Outcome]) -> Outcome:
    if replay is None:
        return unknown(case, "the log does not tell the whole episode", fidelity="chained:divergent")
    if not replay.answers:
        return unknown(case, replay.broken or "no call was made", fidelity="chained:divergent")
    own = replay.answers.get(case.step)
    whole = summed(list(replay.answers.values()))
    shown = whole if own is None else replace(whole, text=own.text, tool_calls=own.tool_calls)
    way = tuple(spoken(answer) for step, answer in replay.answers.items() if step >= case.step)
    outcome = final.get(case.trajectory_id)
    if outcome is None:
        reached = len(replay.answers)
        return astray(case, shown, replay.broken, fidelity="chained:divergent", reached=reached, way=way)
    return replace(
        outcome,
        case_id=case.case_id,
        completion=shown,
        fidelity="chained:exact" if replay.exact else "chained:substituted",
        reached=len(replay.answers),
        way=way,
    )


@dataclass(slots=True, kw_only=True)
class _Replay:
    """One episode on its way."""

    chain: Chain
    end: Case
    """What the final answer is judged as."""
    tried: Mapping[str, Artifact]
    others: Mapping[str, Artifact]
    seed: int | None
    place: int = 0
    request: ChatRequest | None = None
    answers: dict[int, Completion] = field(default_factory=dict)
    """By step, of the calls that were made."""
    new: dict[int, str] = field(default_factory=dict)
    """By place, answers that are others than in the log."""
    asked_by: set[str] = field(default_factory=set)
    """Whose values and demonstrations the answers so far came from."""
    exact: bool = True
    ended: bool = False
    broken: str | None = None

    def go_on(self) -> None:
        """To the next call that is to be made, or the end."""
        while self.place < len(self.chain.calls):
            call = self.chain.calls[self.place]
            values = with_new(call, self.new)
            artifact = self.tried.get(call.site_id or "")
            if artifact is None and values is not call.values:
                artifact = self.others.get(call.site_id or "")
                if artifact is None:
                    return  # nobody knows the prompt of the call that another answer was sent to
            if artifact is not None:
                self._ask(artifact, call, values)
                return
            self.place += 1
        self.ended = True

    def hear(self, answer: Completion) -> None:
        self.request = None
        call = self.chain.calls[self.place]
        self.answers[call.step] = answer
        if answer.error is not None:
            self.broken = answer.error
            return
        if self.place + 1 < len(self.chain.calls) and not self._passes(call, answer):
            return
        self.place += 1
        self.go_on()

    def _passes(self, call: ChainedCall, answer: Completion) -> bool:
        """Whether the log tells how it goes on from here."""
        asked = [tool for message in call.answer for tool in message.get("tool_calls") or ()]
        if [key_of(tool) for tool in answer.tool_calls] != [key_of(tool) for tool in asked]:
            return False
        self.exact &= _functions(answer.tool_calls) == _functions(asked)
        logged = "\n".join(str(message["content"]) for message in call.answer if message.get("content"))
        said = (answer.text or "").strip()
        if said != logged.strip():
            self.new[self.place] = said
            self.exact = False
            return call.told
        return True

    def _ask(self, artifact: Artifact, call: ChainedCall, values: Mapping[str, object]) -> None:
        case = replace(self.end, site_id=call.site_id or "", values=values)
        try:
            request = request_for(artifact, case, seed=self.seed)
        except KeyError as error:
            self.broken = f"the case does not fill the prompt: {error.args[0]}"
            return
        self.asked_by.update(request.asked_by)
        self.request = replace(request, asked_by=tuple(sorted(self.asked_by)))


def _functions(tools: Sequence[Mapping[str, object]]) -> str:
    return canonical_json([tool.get("function") for tool in tools])


def with_new(call: ChainedCall, new: Mapping[int, str]) -> Mapping[str, object]:
    """The values of a call with new answers (by place) in place of the logged ones; as logged where it held none."""
    changed = [one for one in call.passed if one.source in new]
    if not changed:
        return call.values
    values = {
        slot: value if isinstance(value, str) else [dict(turn) for turn in value] for slot, value in call.values.items()
    }
    for one in sorted(changed, key=lambda one: -one.start):  # from the back: what stands before stays in its place
        value = values[one.slot]
        if isinstance(value, str):
            values[one.slot] = value[: one.start] + new[one.source] + value[one.end :]
        elif one.turn is not None:
            text = value[one.turn]["content"]
            value[one.turn]["content"] = text[: one.start] + new[one.source] + text[one.end :]
    return values
