"""The texts of a prompt that a search may write, by name: its instructions, and what describes each of its tools.

A tool's name, its parameters and what describes these stay production's: the agent's code relies on them.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tracemill.errors import ConfigError
from tracemill.ids import canonical_json
from tracemill.optimize.artifact import instructions, with_instructions
from tracemill.records import Artifact

INSTRUCTIONS = "instructions"
MOST_CHARS = 1024
"""Of a description. Providers refuse a longer one."""

_TOOL = "tool:"


def components(artifact: Artifact, *, tools: bool = True) -> dict[str, str]:
    """`instructions`, and with `tools` each `tool:NAME`, "" where a tool has no description.

    A tool that shares its name with another is left out.
    """
    found = {INSTRUCTIONS: instructions(artifact) or ""}
    return found | {component_of(name): text for name, text in descriptions(artifact).items() if tools}


def with_component(artifact: Artifact, name: str, text: str) -> Artifact:
    """The artifact with another text under this name, all else as it is, to the byte.

    Raises ConfigError where there is no such component, and where instructions lack a slot.
    """
    own = components(artifact)
    if name not in own:
        raise ConfigError(f"the prompt has no component {name!r}; it has {', '.join(own)}")
    if text == own[name]:
        return artifact
    if name == INSTRUCTIONS:
        return with_instructions(artifact, text)
    tools = [_described(tool, text) if name_of(tool) == tool_of(name) else tool for tool in artifact.prompt["tools"]]
    return replace(artifact, prompt={**artifact.prompt, "tools": tools})


def component_of(tool: str) -> str:
    return f"{_TOOL}{tool}"


def tool_of(component: str) -> str | None:
    """The name of the tool that a component describes; None for instructions."""
    return component.removeprefix(_TOOL) if component.startswith(_TOOL) else None


def descriptions(artifact: Artifact) -> dict[str, str]:
    """What each tool says of itself, by its name, in the prompt's order; "" where it says nothing."""
    tools = artifact.prompt.get("tools") or ()
    known = Counter(name_of(tool) for tool in tools)
    return {
        name: str(tool["function"].get("description") or "")
        for tool in tools
        if (name := name_of(tool)) is not None and known[name] == 1
    }


def name_of(tool: Mapping[str, Any]) -> str | None:
    """The name of a function; None for a tool of the provider's own."""
    function = tool.get("function")
    name = function.get("name") if isinstance(function, Mapping) else None
    return name if isinstance(name, str) and name else None


def parameters_of(artifact: Artifact, tool: str) -> str:
    """The JSON of a tool's parameters."""
    found = next(one["function"] for one in artifact.prompt["tools"] if name_of(one) == tool)
    return canonical_json(found.get("parameters") or {})


def chosen(artifact: Artifact, failures: Sequence[str], turn: int) -> str:
    """The component that is to be written at this turn to heal failures, each as all that is known of it.

    Every second turn instructions; in between, in turn, the tools that failures name, those first that most do: all
    tools where none is named.
    """
    tools = list(descriptions(artifact))
    counts = {one: sum(names(text, one) for text in failures) for one in tools}
    named = sorted((one for one in tools if counts[one]), key=lambda one: -counts[one]) or tools
    number, tool = divmod(turn, 2)
    return component_of(named[number % len(named)]) if tool and named else INSTRUCTIONS


def names(text: str, tool: str) -> bool:
    """Whether a text speaks of a tool by its name."""
    return re.search(rf"(?<![\w.-]){re.escape(tool)}(?![\w-])", text) is not None


def _described(tool: Mapping[str, Any], text: str) -> dict[str, Any]:
    function = dict(tool["function"])
    if "description" in function:
        return {**tool, "function": {**function, "description": text}}
    # Where people write it: behind the name.
    named = {"name": function.pop("name"), "description": text}
    return {**tool, "function": {**named, **function}}
