"""The calls of a trajectory as threads: conversations in which each call goes on where the one before it stopped.

A call joins the thread of which its prompt repeats everything; a prompt that no thread begins (a sub-agent, a
compacted history, a second sample of the same prompt) opens a thread of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from tracemill.ingest.exports.episode import Episode, Row
from tracemill.ingest.reader import Message


@dataclass(slots=True, kw_only=True)
class Heard:
    """One message of a thread as the calls after it read it."""

    message_id: str
    call: Row | None = None
    """The call whose answer it is; None for what was said to the model."""
    answered: str | None = None
    """The id of what that call answered, where the prompts after it repeat it in other words."""


@dataclass(slots=True, kw_only=True)
class Thread:
    heard: list[Heard] = field(default_factory=list)
    steps: list[tuple[Row, list[Heard]]] = field(default_factory=list)
    """Calls in order, each after what was new in its prompt."""

    def goes_on(self, prompt: Sequence[str], episode: Episode) -> bool:
        """Whether the prompt repeats all that was said here."""
        return len(prompt) >= len(self.heard) and all(
            one.message_id == given or (one.call is not None and _reworded(one, given, episode))
            for one, given in zip(self.heard, prompt, strict=False)
        )


def _reworded(one: Heard, given: str, episode: Episode) -> bool:
    """Whether a prompt repeats an answer in other words: without its reasoning, with its arguments written anew."""
    if one.answered is not None or one.message_id not in episode.messages or given not in episode.messages:
        return False
    own, other = episode.messages[one.message_id], episode.messages[given]
    return own[0] == other[0] == "assistant" and _core(own) == _core(other) != ([], [])


def _core(message: Message) -> tuple[list[str], list[str]]:
    texts = [str(part.get("content")) for part in message[2] if part.get("type") == "text" and part.get("content")]
    calls = [str(part.get("id") or part.get("name")) for part in message[2] if part.get("type") == "tool_call"]
    return texts, calls


def prompt_ids(call: Row) -> list[str] | None:
    """The ids of all that a call read; None where its prompt was not logged."""
    return None if call["input_ids"] is None else [*(call["system_ids"] or ()), *call["input_ids"]]


def threads(calls: Sequence[Row], episode: Episode) -> list[Thread]:
    """The threads in the order of their first calls. A call whose prompt was not logged stands in the latest thread."""
    found: list[Thread] = []
    for call in calls:
        prompt = prompt_ids(call)
        if prompt is None:
            if not found:
                found.append(Thread())
            found[-1].steps.append((call, []))
            continue
        prompt = [one for one in prompt if one in episode.messages]
        joined = max(
            (thread for thread in found if thread.goes_on(prompt, episode)),
            key=lambda thread: len(thread.heard),
            default=None,
        )
        if joined is None:
            found.append(joined := Thread())
        for one, given in zip(joined.heard, prompt, strict=False):
            if one.message_id != given:
                one.answered, one.message_id = one.message_id, given
        new = [Heard(message_id=given) for given in prompt[len(joined.heard) :]]
        joined.heard.extend(new)
        joined.steps.append((call, new))
        answer = next((one for one in call["output_ids"] or () if one in episode.messages), None)
        if answer is not None:
            joined.heard.append(Heard(message_id=answer, call=call))
    return found
