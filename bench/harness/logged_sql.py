"""A scripted agent that answers InterCode-SQL as gpt-3.5 did in the published logs, and a scripted model that writes.

The agent. Its answers are gpt-3.5's own single-turn ones: for each question one that was given without the tables, one
that was given with them in the prompt. It finds the question in the conversation, and

* gives the answer of the run with tables where the statements that make all tables of the question's database stand in
  the conversation, from whomever, except in its own words;
* else asks for them (`LOOK`), once, where its instructions tell it to look first (`looks_first`);
* else gives the answer of the run without.

Nothing else in a prompt changes what it says: no log holds what gpt-3.5 would have said to it.

The writer. It draws lines from `MENU`, a dozen things that people write into prompts for SQL, in wordings of their own;
one of them is to look at the tables first. Each has weight 1, and one more for each sign of its trouble among what the
writer is shown, at most six: errors that name a table or column that is not there raise five of the lines, of which one
helps. It is asked for prompts, for lines or for a critique; what a critique says is taken over with a chance of 80 %. A
new prompt is the old one with one or two lines more; each old line is lost with a chance of 3 %. Its luck is fixed by
the request and by its name.
"""

import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.chatting import chatting
from harness.writing import asked
from tracemill.ids import content_id

AGENT, WRITER = "gpt-3.5-as-logged", "writer"
"""Names of the models that are served; a writer's may go on (`writer-3`), which gives it other luck."""
LOOK = "SELECT sql FROM sqlite_master WHERE type = 'table'"
RUNS = ("ic_sql_multiturn_gpt-3.5-1_turns.json", "ic_sql_multiturn_gpt-3.5-1_turns_handicap.json")
"""Without the tables in the prompt, and with them."""

_PSEUDONYM = re.compile(r"\[[A-Z]+_[0-9a-f]{8}\]")
_SENTENCES = re.compile(r"(?<=[.!?;])\s+|\n")
_THING = re.compile(
    r"schema|table definitions?|definitions? of (?:the|all) tables|how the tables are (?:made|defined)"
    r"|structure of the (?:tables|database)|(?:table|column) names|names of (?:the |all )?(?:tables|columns)"
    r"|(?:which|what) (?:tables|columns)|tables and (?:their )?columns"
    r"|sqlite_(?:master|schema)|information_schema|pragma table_info|show tables"
)
_TO_LOOK = (
    r"(?:look|inspect|query|ask|check|read|list|retriev|fetch|get|examin|explor|see|find out|show|consult|describ"
    r"|select|run)(?:e|ed|ing|s)?\b"
)
_LOOKING = re.compile(r"\b" + _TO_LOOK)
_FIRST = re.compile(r"\b(?:first|before|begin|start|prior to|until|then|after you|once you)\b")
_FORBIDDEN = re.compile(
    r"\b(?:do not|don't|never|no need to|avoid|without|instead of|rather than)\s+(?:\w+\s+){0,2}?" + _TO_LOOK
)
_INSISTS = re.compile(r"\b(?:never|do not|don't)\b.*\b(?:before|until|without)\b")


def looks_first(instructions: str) -> bool:
    """Whether a sentence tells to look at how the tables are made before answering, in whatever words.

    It names the tables' definitions or names, a way of looking, and an order; and does not forbid to look.
    """
    for sentence in _SENTENCES.split(instructions.lower()):
        told = _THING.search(sentence) and _LOOKING.search(sentence) and _FIRST.search(sentence)
        if told and (_INSISTS.search(sentence) or not _FORBIDDEN.search(sentence)):
            return True
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A question as the logs answer it."""

    tables: frozenset[str]
    """Of its database, in lower case."""
    without: str
    shown: str
    """The answer with the tables in the prompt."""


def known(folder: Path) -> dict[str, Known]:
    """By question; `folder` holds tasks.jsonl and runs."""
    logged = []
    for name in RUNS:
        runs = json.loads((folder / "runs" / name).read_text(encoding="utf-8"))
        logged.append({run["query"]: run["turn_history"]["actions"][0] for run in runs.values()})
    without, shown = logged
    tasks = map(json.loads, (folder / "tasks.jsonl").read_text(encoding="utf-8").splitlines())
    return {
        one["query"]: Known(
            tables=frozenset(name.lower() for name in one["db_tables"]),
            without=without[one["query"]],
            shown=shown[one["query"]],
        )
        for one in tasks
    }


class LoggedAgent:
    """See the module."""

    def __init__(self, logged: Mapping[str, Known]) -> None:
        self._logged = dict(logged)

    def answer(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """ValueError where no question of the logs is asked."""
        told = [one for one in messages if one["role"] in ("system", "developer")]
        place, question = self._question(messages)
        turns = messages[place + 1 :]
        seen = "\n".join(str(one["content"]) for one in (*told, *turns) if one["role"] != "assistant").lower()
        made = set(re.findall(r"create table\s+[\"`\[]?(\w+)", seen))
        if question.tables <= made:
            return question.shown
        asked_already = any(one["role"] == "assistant" for one in turns)
        if not asked_already and looks_first("\n".join(str(one["content"]) for one in told)):
            return LOOK
        return question.without

    def _question(self, messages: Sequence[Mapping[str, Any]]) -> tuple[int, Known]:
        for place in range(len(messages) - 1, -1, -1):
            if messages[place]["role"] == "user" and (found := self._find(str(messages[place]["content"]))):
                return place, found
        raise ValueError(f"the logs hold no answer to this: {messages[-1]['content']!r}")

    def _find(self, text: str) -> Known | None:
        if text not in self._logged and _PSEUDONYM.search(text):
            like = re.compile(".+".join(map(re.escape, _PSEUDONYM.split(text))))
            matches = [one for asked, one in self._logged.items() if like.fullmatch(asked)]
            return matches[0] if len(matches) == 1 else None
        return self._logged.get(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """A line that the writer may propose."""

    wordings: tuple[str, ...]
    sign: str | None = None
    """What of the evidence suggests it."""


_MISSING = r"doesn't exist|unknown column|no such (?:table|column)"
_CLUMSY = r"error in your sql syntax|near \"|ambiguous|aggregated query"
_LOOK_FIRST = Advice(
    wordings=(
        "Before you write the query, look at the schema of the tables.",
        "First ask for the table definitions (SELECT sql FROM sqlite_master); write the query when you have seen them.",
        "Start by listing which tables and columns the database has; answer only then.",
    ),
    sign=_MISSING,
)
MENU = (
    _LOOK_FIRST,
    Advice(
        wordings=("Never guess names of tables or columns.", "Use names that exist in the database."), sign=_MISSING
    ),
    Advice(wordings=("Tables are called by singular nouns in lower case.",), sign=_MISSING),
    Advice(wordings=("Prefer common names for columns, such as id and name.",), sign=_MISSING),
    Advice(wordings=("Spell every name as the question spells it.",), sign=_MISSING),
    Advice(wordings=("Give each table an alias and qualify every column with it.",), sign=_CLUMSY),
    Advice(wordings=("Write standard SQL that any database understands.",), sign=_CLUMSY),
    Advice(wordings=("Answer with the SQL query only, without explanation.",)),
    Advice(wordings=("Think step by step about the joins before you write the query.",)),
    Advice(wordings=("Return exactly the columns that are asked for, in the order of the question.",)),
    Advice(wordings=("Use DISTINCT only where the question asks for different values.",)),
    Advice(wordings=("Prefer JOIN to nested queries.",)),
)
_MOST_SIGNS = 6
_CURRENT = re.compile(
    r"<prompt>\n(.*?)\n?</prompt>|\[\[ ## current_instruction ## \]\]\n(.*?)\n*\[\[ ## examples_with_feedback",
    re.DOTALL,
)
_CRITIQUE = re.compile(r"<critique>\n(.*?)\n</critique>", re.DOTALL)
_PLAYBOOK = re.compile(r"<playbook>\n(.*?)\n</playbook>", re.DOTALL)


class LineWriter:
    """See the module."""

    def answer(self, body: Mapping[str, Any]) -> str:
        rng = random.Random(content_id("writer", {name: body.get(name) for name in ("model", "messages", "seed")}))
        wanted = asked(body["messages"], body)
        found = _CURRENT.search(wanted.shown)
        current = next((text for text in found.groups() if text), "") if found else ""
        playbook = _PLAYBOOK.search(wanted.shown)
        evidence = _PLAYBOOK.sub("", _CURRENT.sub("", wanted.shown)).lower()
        lines = self._lines(rng, f"{current}\n{playbook[1] if playbook else ''}", evidence)
        return wanted.told({name: self._field(rng, name, current, lines) for name in wanted.fields})

    @staticmethod
    def _lines(rng: random.Random, said: str, evidence: str) -> list[str]:
        """One or two lines that the prompt does not hold yet."""
        fresh = [one for one in MENU if not any(text in said for text in one.wordings)]
        critique = _CRITIQUE.search(evidence)
        points = [] if critique is None else [
            text for one in fresh for text in one.wordings if text.lower() in critique[1]
        ]  # fmt: skip
        if points and rng.random() < 0.8:
            return points
        lines = []
        for _ in range(min(len(fresh), rng.choice((1, 2)))):
            weights = [1 + min(_MOST_SIGNS, len(re.findall(one.sign, evidence)) if one.sign else 0) for one in fresh]
            one = rng.choices(fresh, weights)[0]
            fresh.remove(one)
            lines.append(rng.choice(one.wordings))
        return lines

    @staticmethod
    def _field(rng: random.Random, name: str, current: str, lines: Sequence[str]) -> Any:
        if name == "new_lines":
            return list(lines)
        if "instruction" not in name:
            return " ".join(lines) or "The questions are about different databases."
        kept = [line for line in current.splitlines() if line.strip() and rng.random() >= 0.03]
        return "\n".join([*kept, *lines])


def serve(folder: Path, port: int) -> None:
    """Both models behind OpenAI's chat API on this machine, until the process ends."""
    agent, writer = LoggedAgent(known(folder)), LineWriter()

    def answer(body: Mapping[str, Any]) -> tuple[str, int, int]:
        text = agent.answer(body["messages"]) if body["model"] == AGENT else writer.answer(body)
        return text, sum(len(str(one["content"])) for one in body["messages"]) // 4, len(text) // 4

    chatting(answer, port).serve_forever()
