"""Blame for prompts: which episodes, of how many users, stand behind each line that a candidate adds."""

from collections.abc import Iterable, Mapping
from typing import Any

from tracemill import client
from tracemill.optimize.artifact import PRODUCTION_SOURCE, pool_of
from tracemill.optimize.components import descriptions
from tracemill.records import Artifact, Support
from tracemill.study import Study


def lines(artifact: Artifact) -> list[tuple[str, str]]:
    """(role, line) of the prompt's constant text, blank lines left out; slots are written `{{name}}`.

    A line of a tool's description has the role "tool" and names the tool.
    """
    found = []
    for item in artifact.prompt["messages"]:
        pieces = item.get("content") or ()
        text = "".join(piece if isinstance(piece, str) else f"{{{{{piece['slot']}}}}}" for piece in pieces)
        found += [(str(item["role"]), line) for line in text.splitlines() if line.strip()]
    for name, text in descriptions(artifact).items():
        found += [("tool", f"tool {name}: {line}") for line in text.splitlines() if line.strip()]
    return found


def added(baseline: Artifact, artifact: Artifact) -> list[str]:
    """The lines of constant text that the baseline has not, each once, in order."""
    own = set(lines(baseline))
    return list(dict.fromkeys(line for role, line in lines(artifact) if (role, line) not in own))


def shown_as(demo: Mapping[str, Any]) -> str:
    """A demonstration in one line."""
    return f"{demo['text']} → {demo['messages'][-1].get('content')}"


def supports(
    study: Study, artifact: Artifact, lineage: Iterable[str], by_line: Mapping[str, Iterable[str]]
) -> tuple[Support, ...]:
    """Who stands behind each added line and each demonstration that is not production's own.

    `by_line`: the episodes that a line was written from; a line that is not there rests on the whole `lineage`. A
    demonstration rests on all episodes that ask the same and have the same right output.
    """
    whole = sorted(set(lineage))
    owner = {case.trajectory_id: case.owner for case in (*study.train, *study.tune)}
    found = [
        _support(study, owner, line, by_line.get(line, whole), demonstration=False)
        for line in added(study.baseline, artifact)
    ]
    shown = [demo for demo in pool_of(artifact) if demo.get("source") != PRODUCTION_SOURCE]
    if shown:
        claims: dict[tuple[str, str], set[str]] = {}
        for case in study.train:
            if case.expected is not None:
                asked = client.question(study.baseline.prompt, case.values)
                claims.setdefault((asked, case.expected), set()).add(case.trajectory_id)
        for demo in shown:
            answer = str(demo["messages"][-1].get("content"))
            alike = claims.get((demo["text"], answer), set()) | {str(demo["source"])}
            found.append(_support(study, owner, shown_as(demo), alike, demonstration=True))
    return tuple(found)


class Lines:
    """What a search has learned its lines from: each line belongs to what was looked at before it was first written."""

    def __init__(self, study: Study) -> None:
        self.known: dict[str, tuple[str, ...]] = {}
        self._study = study
        self._since: set[str] = set()

    def looked_at(self, trajectories: Iterable[str]) -> None:
        self._since.update(trajectories)

    def wrote(self, artifact: Artifact) -> None:
        """An artifact as it is first seen."""
        new = [line for line in added(self._study.baseline, artifact) if line not in self.known]
        if new and self._since:
            self.known.update(dict.fromkeys(new, tuple(sorted(self._since))))
            self._since.clear()


def _support(
    study: Study, owner: Mapping[str, str], text: str, trajectories: Iterable[str], *, demonstration: bool
) -> Support:
    """`owner`: trajectory -> whom it counts for, of the study's own."""
    behind = sorted(set(trajectories))
    known = {owner[one] for one in behind if one in owner}
    # Whose the others are nobody knows here: no more users than a finding that shows them has, else one. Where the
    # logs name nobody, each counts as itself.
    others = {one for one in behind if one not in owner}
    told = max((hint.n_users or len(others) for hint in study.hints if others & set(hint.trajectories)), default=1)
    return Support(
        text=text,
        trajectories=tuple(behind),
        n_users=max(len(known), min(len(others), told)),
        demonstration=demonstration,
    )
