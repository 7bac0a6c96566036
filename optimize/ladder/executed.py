"""The site run for real: the agent acts in an environment, which says how it went."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

from tracemill.errors import ConfigError
from tracemill.ids import canonical_json
from tracemill.optimize.ladder.level import Valid, kept_with, summed, unknown
from tracemill.optimize.ladder.tape import spoken
from tracemill.optimize.replay import output_of, request_for
from tracemill.protocols import ChatModel, Environment
from tracemill.records import Artifact, Case, ChatMessage, ChatRequest, Completion, Fidelity, Outcome

Make = Callable[[], Environment]
"""A fresh environment, for one episode."""


@runtime_checkable
class Closes(Protocol):
    """An environment that holds something: it is closed after its episode."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Executed:
    """Runs an episode for each case in an environment of its own, all of them at once.

    The first call is the case's prompt, as if nobody had answered in its conversation yet; what the environment
    answers to an action is the next turn, and so on for at most `max_steps` calls. An answer in text is one action; one
    that calls tools is an action for each call. The reward is the last one that the environment gave. What goes wrong
    in the environment is the error of that case, which then has no reward; an episode that is not over after
    `max_steps` calls has what it earned until then.
    """

    model: ChatModel
    """Cached and budgeted: replay.CachedModel."""
    make: Make
    by: str
    """Name of the environment."""
    valid: Valid
    max_steps: int = 10
    seed: int | None = 0

    def __post_init__(self) -> None:
        if self.max_steps < 1:
            raise ConfigError(f"environment {self.by}: max_steps is {self.max_steps}; give at least 1")

    @property
    def fidelity(self) -> Fidelity:
        return "executed"

    def __call__(self, artifact: Artifact, cases: Sequence[Case]) -> list[Outcome]:
        with ExitStack() as opened:
            begun = [self._begun(artifact, case, opened) for case in cases]
            runs = [one for one in begun if isinstance(one, _Run)]
            while asking := [run for run in runs if run.request is not None]:
                requests = [run.request for run in asking if run.request is not None]
                for run, answer in zip(asking, self.model.complete(requests), strict=True):
                    run.hear(answer, self.max_steps)
        return [self._outcome(one) if isinstance(one, _Run) else one for one in begun]

    def _begun(self, artifact: Artifact, case: Case, opened: ExitStack) -> "_Run | Outcome":
        try:
            environment = self.make()
        except Exception as error:  # noqa: BLE001 - somebody else's code: whatever it raises is a fault of this case
            return unknown(case, _told(error), fidelity=self.fidelity)
        run = _Run(artifact=artifact, case=case, seed=self.seed, environment=environment)
        opened.callback(run.close)
        run.begin()
        return run

    def _outcome(self, run: "_Run") -> Outcome:
        if not run.answers:
            return unknown(run.case, run.fault or "no call was made", fidelity=self.fidelity)
        completion = summed(run.answers)
        output = output_of(completion)
        reward = run.reward if run.fault is None else None
        return Outcome(
            case_id=run.case.case_id,
            task_group=run.case.task_group,
            completion=completion if run.fault is None else replace(completion, error=run.fault),
            reward=reward,
            valid=None if output is None else self.valid(run.case, output),
            fidelity=self.fidelity,
            reached=len(run.answers),
            judged_by=None if reward is None else self.by,
            way=tuple(run.turns),
        )


@dataclass(slots=True, kw_only=True)
class _Run:
    """One episode on its way."""

    artifact: Artifact
    case: Case
    seed: int | None
    environment: Environment
    turns: list[ChatMessage] = field(default_factory=list)
    request: ChatRequest | None = None
    answers: list[Completion] = field(default_factory=list)
    reward: float | None = None
    fault: str | None = None

    def begin(self) -> None:
        try:
            seen = self.environment.reset(self.case.task)
        except Exception as error:  # noqa: BLE001 - as above
            self.fault = _told(error)
            return
        if seen:
            self.turns.append({"role": "user", "content": seen})
        self.ask()

    def close(self) -> None:
        """Raises nothing: it would cost the other cases, or hide why the level ends."""
        if not isinstance(self.environment, Closes):
            return
        try:
            self.environment.close()
        except Exception as error:  # noqa: BLE001 - as above
            self.fault = self.fault or _told(error)

    def hear(self, answer: Completion, max_steps: int) -> None:
        self.request = None
        self.answers.append(answer)
        if answer.error is not None:
            self.fault = answer.error
            return
        self.turns.append(spoken(answer))
        try:
            over = self._act(answer)
        except Exception as error:  # noqa: BLE001 - as above
            self.fault = _told(error)
            return
        if not over and len(self.answers) < max_steps:
            self.ask()

    def _act(self, answer: Completion) -> bool:
        if not answer.tool_calls:
            seen, over = self._step(answer.text or "")
            self.turns.append({"role": "user", "content": seen})
            return over
        over = False
        for call in answer.tool_calls:
            function: dict[str, Any] = dict(call.get("function") or {})
            action = canonical_json({"name": function.get("name"), "arguments": function.get("arguments")})
            seen, over = self._step(action)
            self.turns.append({"role": "tool", "tool_call_id": call.get("id"), "content": seen})
            if over:
                break
        return over

    def _step(self, action: str) -> tuple[str, bool]:
        seen, reward, over = self.environment.step(action)
        if reward is not None and not 0.0 <= reward <= 1.0:
            raise ValueError(f"the reward {reward} is not between 0 and 1")
        self.reward = self.reward if reward is None else reward
        return seen, over

    def ask(self) -> None:
        values, talk = dict(self.case.values), self.case.values.get("conversation")
        if isinstance(talk, list):
            asked = next((at for at, turn in enumerate(talk) if turn.get("role") == "assistant"), len(talk))
            values["conversation"] = [*talk[:asked], *self.turns]
        try:
            request = request_for(self.artifact, replace(self.case, values=values), seed=self.seed)
        except KeyError as error:
            self.fault = f"the case does not fill the prompt: {error.args[0]}"
            return
        if not isinstance(talk, list):
            request = replace(request, messages=(*request.messages, *self.turns))
        self.request = kept_with(self.case, request)


def _told(error: Exception) -> str:
    return f"the environment failed: {type(error).__name__}: {error}"
