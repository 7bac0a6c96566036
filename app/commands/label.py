"""label: asks a person how well episodes went, one by one, and keeps each answer at once."""

import getpass
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from tracemill.app import project
from tracemill.app.commands.data import count
from tracemill.app.output import Output, plain
from tracemill.errors import ConfigError
from tracemill.pipelines import labelling
from tracemill.pipelines.labelling import Answer, Asked
from tracemill.pipelines.night import Night

_HELP = "y good   n bad   0 to 1 in between   c TEXT the right output   s skip   q stop"
_CHARS = 1_500
_MESSAGES = 30
_COLOURS = {"user": "cyan", "assistant": "green", "tool": "magenta", "system": "dim"}


def label(
    given: Path | None,
    *,
    n: int,
    who: str | None,
    answers: Path | None,
    second: bool,
    as_json: bool,
    dry_run: bool,
) -> None:
    """Asks, exports the queue (`as_json`), or takes the answers of a file."""
    output = Output(as_json=as_json)
    name = who or getpass.getuser()
    with project.opened(given, output) as night:
        if answers is not None:
            _take(night, output, answers, name, dry_run=dry_run)
            return
        if dry_run:
            waiting = labelling.queue(night, n, draw=False)
            plan = f"would ask about {count(len(waiting), 'episode')} drawn before" if waiting else _would_draw(n)
            output.result({"waiting": len(waiting), "draws": 0 if waiting else n}, plan)
            return
        asked = labelling.second_opinions(night, name, n) if second else labelling.queue(night, n)
        if as_json:
            output.result({"labeller": name, "queue": [_exported(night, one) for one in asked]})
            return
        if not asked:
            output.result({}, "nobody need be asked: every episode is labelled")
            return
    # Without progress drawn: it would write over the question.
    with project.open_lake(night.config) as lake:
        kept = _ask(project.night(night.config, lake), asked, name, output.stdout)
    left = len(asked) - kept
    rest = f"; {left} left, run tracemill label again to go on" if left else ""
    output.result({}, f"{count(kept, 'answer')} kept{rest}. tracemill score takes them into account.")


def _would_draw(n: int) -> str:
    return f"would draw {count(n, 'episode')}, each with a known probability, and ask about them"


def _take(night: Night, output: Output, path: Path, who: str, *, dry_run: bool) -> None:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    found = labelling.of_file(night, lines, where=str(path))
    drawn = sum(one.propensity is not None for one, _ in found)
    facts = {"answers": len(found), "drawn": drawn, "volunteered": len(found) - drawn}
    if dry_run:
        output.result(facts, f"would take {count(len(found), 'answer')}, {drawn} of them to episodes that were drawn")
        return
    stored = labelling.store(night, found, who=who)
    output.result(
        {**facts, "stored": stored},
        f"{count(stored, 'answer')} kept, {drawn} of them to episodes that were drawn. "
        "tracemill score takes them into account.",
    )


def _exported(night: Night, asked: Asked) -> Mapping[str, Any]:
    turns = [
        {"role": turn["role"], "name": turn["name"], "text": "\n".join(_texts(turn))}
        for turn in labelling.episode(night, asked.target_id)
    ]
    return {**asdict(asked), "episode": turns}


def _ask(night: Night, asked: list[Asked], who: str, console: Console) -> int:
    """Asks until all is answered or somebody stops; every answer is in the lake before the next question."""
    kept = 0
    try:
        for number, one in enumerate(asked, start=1):
            _show(night, one, f"{number} of {len(asked)}", console)
            answer = _answer(console)
            if answer is None:
                break
            kept += labelling.store(night, [(one, answer)], who=who)
    except (KeyboardInterrupt, EOFError):
        console.print()
    return kept


def _answer(console: Console) -> Answer | None:
    """None: stop."""
    while True:
        console.print(Text(_HELP, style="dim"))
        # A prompt of input()'s own would go to stderr where stdout is no terminal.
        console.print("good? ", end="", style="bold")
        said = input().strip()
        if said.lower() in ("q", "quit"):
            return None
        try:
            return labelling.parse(said)
        except ConfigError as error:
            console.print(str(error), style="red", markup=False)


def _show(night: Night, asked: Asked, place: str, console: Console) -> None:
    console.print()
    console.print(Rule(Text(f"{place}  ·  {asked.agent or 'agent without a name'}  ·  {asked.target_id[:12]}")))
    turns = labelling.episode(night, asked.target_id)
    half = _MESSAGES // 2
    for index, turn in enumerate(turns):
        if len(turns) > _MESSAGES and index == half:
            console.print(Text(f"… {len(turns) - _MESSAGES} messages …", style="dim"))
        if len(turns) > _MESSAGES and half <= index < len(turns) - half:
            continue
        role = str(turn["role"])
        who = f"{role} {plain(turn['name'])}" if turn["name"] else role
        console.print(Text(who, style=f"bold {_COLOURS.get(role, 'white')}"))
        for text in _texts(turn):
            console.print(Text(cut(plain(text)), style="dim" if role == "system" else ""), soft_wrap=False)
    if not turns:
        console.print(Text("no messages were logged", style="dim"))
    console.print()


def _texts(turn: Mapping[str, Any]) -> Iterator[str]:
    """What a message says, with the calls it makes."""
    if turn["text"]:
        yield str(turn["text"])
    parts = json.loads(turn["parts"] or "[]")
    for part in parts if isinstance(parts, list) else ():
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind == "tool_call":
            arguments = part.get("arguments")
            yield f"→ {part.get('name')}({arguments if isinstance(arguments, str) else json.dumps(arguments)})"
        elif kind == "tool_call_response" and not isinstance(part.get("response"), str):
            yield json.dumps(part.get("response"), ensure_ascii=False)
        elif kind == "refusal":
            yield str(part.get("content"))


def cut(text: str) -> str:
    """Beginning and end of a long text."""
    if len(text) <= _CHARS:
        return text
    half = _CHARS // 2
    return f"{text[:half]}\n… {len(text) - _CHARS} characters …\n{text[-half:]}"
