"""Labels from people: which episodes to ask about, drawn with known probabilities, and the answers as scores.

What was drawn stands in a file until it is answered, so that a round can be left and taken up again: a probability is
that of the draw, and does not change with what was answered in between.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tracemill.errors import ConfigError
from tracemill.ids import content_id, keyed_fraction
from tracemill.ingest import Ruleset
from tracemill.ingest.redact import Redactor
from tracemill.pipelines.night import Night, rows
from tracemill.rewards import asking

LABEL, CORRECTION = "label", "correction"
SKIPPED = "skipped"
_WORDS = {"y": 1.0, "yes": 1.0, "good": 1.0, "n": 0.0, "no": 0.0, "bad": 0.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One episode that was drawn for a label."""

    target_id: str
    propensity: float | None
    """Probability that it was drawn; None where somebody asked for this very one."""
    agent: str | None = None
    value: float | None = None
    """Its combined score when it was drawn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What somebody says of an episode: a value, a corrected output, or neither (skipped)."""

    value: float | None = None
    correction: str | None = None


def parse(said: object) -> Answer:
    """An answer as it is typed: y, n, s, a number from 0 to 1, or `c` and the right output. ConfigError otherwise."""
    if isinstance(said, bool):
        return Answer(value=float(said))
    text = str(said).strip()
    word = text.lower()
    if word in ("s", "skip"):
        return Answer()
    if word in _WORDS:
        return Answer(value=_WORDS[word])
    if word.startswith(("c ", "c:")) and text[2:].strip():
        return Answer(correction=text[2:].strip())
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ConfigError(f"answer {text[:40]!r}: give y, n, s (skip), a number from 0 to 1, or c and the right output")
    return Answer(value=value)


def queue(night: Night, n: int, *, draw: bool = True) -> list[Asked]:
    """The episodes of the round that are not answered yet; a new round of `n` is drawn where none is left."""
    waiting = _waiting(night)
    if waiting or not draw:
        return waiting
    drawn = _drawn(night, n)
    path = night.config.path(".tracemill/labels.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, [asdict(one) for one in drawn])
    return drawn


def without_forgotten(night: Night) -> None:
    """Takes episodes that the lake does not have any more out of the round that waits."""
    path = night.config.path(".tracemill/labels.json")
    if not path.is_file():
        return
    drawn = json.loads(path.read_text(encoding="utf-8"))
    there = night.select(
        "SELECT trajectory_id FROM trajectories WHERE list_contains(?, trajectory_id)",
        [one["target_id"] for one in drawn] or [""],
    )
    left = set(there["trajectory_id"].to_pylist())
    _write(path, [one for one in drawn if one["target_id"] in left])


def second_opinions(night: Night, who: str, n: int) -> list[Asked]:
    """Episodes that others labelled and `who` did not, oldest label first: what tells how far people agree."""
    found = night.select(
        """
        SELECT target_id, any_value(t.agent_name) AS agent
        FROM scores s JOIN trajectories t ON t.trajectory_id = s.target_id
        WHERE s.target_kind = 'trajectory' AND s.source = 'human' AND s.name = 'label' AND s.value IS NOT NULL
        GROUP BY target_id
        HAVING count(DISTINCT s.user_key) = 1 AND bool_and(s.user_key <> ?)
        ORDER BY min(s."at"), target_id LIMIT ?
        """,
        _redactor(night).user_key(who),
        n,
    )
    return [Asked(target_id=row["target_id"], propensity=None, agent=row["agent"]) for row in found.to_pylist()]


def store(night: Night, answers: Sequence[tuple[Asked, Answer]], *, who: str) -> int:
    """Keeps answers in one transaction; how many were new. Corrections are redacted like everything that is written."""
    redactor = _redactor(night)
    made: list[dict[str, Any]] = []
    for asked, answer in answers:
        facts = {
            "target_kind": "trajectory",
            "target_id": asked.target_id,
            "name": LABEL if answer.correction is None else CORRECTION,
            "value": answer.value,
            "label": redactor.text(answer.correction)
            if answer.correction is not None
            else SKIPPED
            if answer.value is None
            else None,
            "source": "human",
            "family": "people",
            "propensity": asked.propensity,
            "user_key": redactor.user_key(who),
            "at": night.clock(),
        }
        made.append({"score_id": content_id(facts), **facts})
    with night.lake.transaction(f"{night.night_id}: labels") as tx:
        return tx.insert("scores", rows("scores", made))


def of_file(night: Night, lines: Sequence[str], *, where: str) -> list[tuple[Asked, Answer]]:
    """Answers of JSON lines with target_id and answer. ConfigError names the first line that cannot be taken.

    What is not in the queue is taken as volunteered: without a probability.
    """
    known = {one.target_id: one for one in _waiting(night)}
    found: list[tuple[Asked, Answer]] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            target, said = row["target_id"], row["answer"]
        except (ValueError, TypeError, KeyError) as error:
            raise ConfigError(f"{where}, line {number}: give a JSON object with target_id and answer") from error
        try:
            found.append((known.get(target) or Asked(target_id=str(target), propensity=None), parse(said)))
        except ConfigError as error:
            raise ConfigError(f"{where}, line {number}: {error}") from error
    there = night.select(
        "SELECT trajectory_id FROM trajectories WHERE list_contains(?, trajectory_id)",
        [one.target_id for one, _ in found] or [""],
    )
    if strangers := sorted({one.target_id for one, _ in found} - set(there["trajectory_id"].to_pylist())):
        raise ConfigError(f"{where}: no trajectory {strangers[0]!r} in the lake; nothing was taken")
    return found


def episode(night: Night, target_id: str) -> list[Mapping[str, Any]]:
    """What was said in an episode, in order: role, name, text, parts."""
    found: list[Mapping[str, Any]] = night.select(
        "SELECT role, name, text, parts FROM conversations WHERE trajectory_id = ? ORDER BY turn", target_id
    ).to_pylist()
    return found


def _drawn(night: Night, n: int) -> list[Asked]:
    with night.learner() as con:
        table = asking.targets(con)
    chance = asking.propensities(table["worth"].to_numpy(), n)
    rest = zip(*(table[name].to_pylist() for name in ("target_id", "agent", "value")), strict=True)
    # In an order, and from a start, that only the holder of the lake's key can predict.
    key = night.lake.key
    drawn = sorted(
        (keyed_fraction(key, "label", night.night_id, target), target, agent, value, probability)
        for (target, agent, value), probability in zip(rest, chance.tolist(), strict=True)
    )
    places = asking.draw(np.array([one[4] for one in drawn]), keyed_fraction(key, "label start", night.night_id))
    return [
        Asked(target_id=target, propensity=probability, agent=agent, value=value)
        for _, target, agent, value, probability in (drawn[place] for place in places)
    ]


def _waiting(night: Night) -> list[Asked]:
    """What was drawn and neither answered nor skipped, nor forgotten since."""
    path = night.config.path(".tracemill/labels.json")
    if not path.is_file():
        return []
    drawn = [Asked(**one) for one in json.loads(path.read_text(encoding="utf-8"))]
    left = night.select(
        """
        SELECT trajectory_id FROM trajectories t
        WHERE list_contains(?, trajectory_id) AND NOT EXISTS (
            FROM scores s WHERE s.target_id = t.trajectory_id AND s.target_kind = 'trajectory' AND s.source = 'human'
                AND s.name IN ('label', 'correction') AND s.user_key IS NOT NULL)
        """,
        [one.target_id for one in drawn] or [""],
    )
    there = set(left["trajectory_id"].to_pylist())
    return [one for one in drawn if one.target_id in there]


def _write(path: Path, drawn: Sequence[Mapping[str, Any]]) -> None:
    fresh = path.with_suffix(f".{os.getpid()}.tmp")
    fresh.write_text(json.dumps(drawn, ensure_ascii=False), encoding="utf-8")
    os.replace(fresh, path)


def _redactor(night: Night) -> Redactor:
    return Redactor(night.lake.key, Ruleset(night.config.redaction))
