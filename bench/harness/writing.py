"""What simulated models that write prompts share: which fields a request asks for, and an answer in the form it wants.

They are asked by GEPA and MIPROv2 (DSPy's field marks or JSON) and by APO and the playbook (one JSON object).
"""

import json
import random
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tracemill.records import ChatRequest, Completion

_FIELDS = re.compile(r"\[\[ ## (\w+) ## \]\]|`(\w+)`|\"(\w+)\": \[?\"…\"")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a model that writes is shown, and what it is to fill in."""

    shown: str
    fields: tuple[str, ...]
    as_json: bool

    def told(self, values: Mapping[str, Any]) -> str:
        """The answer: a text, a list or an object for each field."""
        if self.as_json:
            return json.dumps(values)
        parts = [
            f"[[ ## {name} ## ]]\n{value if isinstance(value, str) else json.dumps(value)}"
            for name, value in values.items()
        ]
        return "\n\n".join([*parts, "[[ ## completed ## ]]"])


class Writer(ABC):
    """A ChatModel that writes; what it draws depends on its seed and on what it is sent."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def complete(self, requests: Sequence[ChatRequest]) -> list[Completion]:
        return [Completion(text=self._drawn(one), tokens_in=800, tokens_out=150) for one in requests]

    def _drawn(self, request: ChatRequest) -> str:
        rng = random.Random(f"writer/{self._seed}/{request.replay_key.partition('/')[0]}")
        return self.reply(rng, asked(request.messages, request.params))

    @abstractmethod
    def reply(self, rng: random.Random, wanted: Asked) -> str:
        """What it writes, in the form that is wanted."""


def asked(messages: Sequence[Mapping[str, Any]], params: Mapping[str, Any]) -> Asked:
    """ValueError where the last line of the request does not say what is to be written."""
    shown = str(messages[-1]["content"]).replace("\\n", "\n")
    tail = shown.strip().rsplit("\n", 1)[-1]
    names = tuple(name for found in _FIELDS.findall(tail) for name in found if name and name != "completed")
    if not names:
        raise ValueError(f"the simulated writer does not see what it is to write: {tail!r}")
    return Asked(shown=shown, fields=names, as_json="JSON" in tail or bool(params.get("response_format")))
