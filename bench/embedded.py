"""What hand-over and steps in turn are worth: the demo's desk with the embedded model, from one day of logs.

    python bench/embedded.py [--seeds 1] [--desk marked corrected] [--out FILE] [--quick]

Two desks from one day of the same tickets: `corrected`, where reviewers write the right queue beside 70 % of them, as
in `tracemill demo`; and `marked`, where a checker says of every answer whether it was right and never what would have
been. On each: prompts alone, weights alone, weights that prompts teach ([train] hand_over), and `p -> w -> p` step by
step (on the marked desk with hand-over, as BetterTogether does). Success is measured on 100 tickets of wordings that
nothing before has seen, with 95 % cluster-bootstrap intervals over wordings; lifts are paired with production's.

No gate is asked: what is measured is what the gate would be given. `calls` are those of the searches and the teacher,
cached ones included; `seconds` those of the steps behind an artifact, each measured when it first ran. Prints one JSON
object as its last line; each finished artifact is a line of FILE as soon as it is measured.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness import machine

from tracemill.app import demo, project
from tracemill.app.output import Output
from tracemill.optimize import choosing
from tracemill.optimize.replay import request_for
from tracemill.pipelines import branches, ingesting, judging, learning, replaying, turns
from tracemill.pipelines.endpoint import Endpoint, ensure_adapter, open_endpoint
from tracemill.pipelines.learning import Lesson
from tracemill.pipelines.night import Night
from tracemill.records import Candidate
from tracemill.stats import Interval, clustered_mean, paired_difference
from tracemill.warehouse import Lake

WORDINGS = (160, 100)
CHECKER = """
import json
from pathlib import Path

RIGHT = json.loads(Path(__file__).with_name("right.json").read_text())


def judge(output, case):
    return float(output.strip() == RIGHT[case.trajectory_id])
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """Tickets of new wordings, and where they belong."""

    tickets: Sequence[Mapping[str, str]]
    truth: Mapping[str, Mapping[str, Any]]

    def successes(self, endpoint: Endpoint, lesson: Lesson, candidate: Candidate) -> list[float]:
        artifact = replaying.on_endpoint(endpoint, candidate.artifact)
        ensure_adapter(endpoint, artifact)
        (slot,) = lesson.site.template.slots
        cases = [replace(lesson.train[0], values={slot: ticket["text"]}) for ticket in self.tickets]
        done = endpoint.chat.complete([request_for(artifact, case, seed=0) for case in cases])
        return [
            float((answer.text or "").strip() == self.truth[ticket["session_id"]]["queue"])
            for ticket, answer in zip(self.tickets, done, strict=True)
        ]

    @property
    def wordings(self) -> list[str]:
        return [str(self.truth[ticket["session_id"]]["wording"]) for ticket in self.tickets]


@dataclass(slots=True, kw_only=True)
class Desk:
    """A project in the evening, and what its artifacts come to."""

    name: str
    seed: int
    night: Night
    lesson: Lesson
    endpoint: Endpoint
    held_out: HeldOut
    out: Path | None
    production: list[float] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)

    def measure(self, label: str, candidate: Candidate, **more: Any) -> None:
        got = self.held_out.successes(self.endpoint, self.lesson, candidate)
        clusters = self.held_out.wordings
        if not self.production:
            self.production = got
        row = {
            "desk": self.name,
            "seed": self.seed,
            "artifact": label,
            "made_by": candidate.optimizer,
            "branch": candidate.branch,
            "tune_score": candidate.tune_score,
            "success": _three(clustered_mean(got, clusters)),
            "lift": _three(paired_difference(got, self.production, clusters)),
            **more,
        }
        self.rows.append(row)
        print(json.dumps(row), file=sys.stderr, flush=True)
        if self.out is not None:
            with self.out.open("a") as lines:
                lines.write(json.dumps(row) + "\n")

    def search(self, turn: turns.Turn) -> tuple[list[Candidate], dict[str, Any]]:
        began = time.perf_counter()
        found, detail = branches.search_prompts(self.night, self.lesson, self.endpoint, turn)
        return found, {
            "seconds": time.perf_counter() - began,
            "calls": detail.get("calls", 0) + detail.get("cached", 0),
            "skipped": detail.get("skipped"),
        }

    def train(self, turn: turns.Turn, *, hand_over: bool) -> tuple[list[Candidate], dict[str, Any]]:
        config = self.night.config
        night = replace(self.night, config=replace(config, train=replace(config.train, hand_over=hand_over)))
        began, before = time.perf_counter(), turn.ledger.spent
        found, detail = branches.weights_in_turn(night, self.lesson, self.endpoint, turn)
        after = turn.ledger.spent
        return found, {
            "seconds": time.perf_counter() - began,
            "calls": after.calls + after.cached - before.calls - before.cached,
            "rows": detail.get("rows"),
            "handed_over": detail.get("handed_over"),
            "skipped": detail.get("skipped"),
        }


def _three(interval: Interval | None) -> list[float] | None:
    return None if interval is None else [round(one, 3) for one in (interval.estimate, interval.low, interval.high)]


def play(desk: Desk) -> None:
    """All arms of one desk: searches share their answers in the lake, and each training is done once."""
    hand_over = desk.name == "marked"
    first = branches.first_turn(desk.night, desk.lesson)
    desk.measure("production", desk.lesson.production)

    found, searched = desk.search(first)
    best = choosing.winner(found, branches.tuning_rewards(desk.night, found))
    for one in best:
        desk.measure("p", one, **searched)

    alone, cost = desk.train(first, hand_over=False)
    for one in alone:
        desk.measure("w", one, **cost)
    if hand_over:
        teacher = next(iter(best), None)
        taught, cost = desk.train(replace(first, teacher=teacher), hand_over=True)
        for one in taught:
            seconds = cost.pop("seconds") + searched["seconds"]
            calls = cost.pop("calls") + searched["calls"]
            desk.measure("w, taught", one, **cost, seconds=seconds, calls=calls)

    turn = replace(branches.first_turn(desk.night, desk.lesson), apart=True)
    order = turns.steps("p -> w -> p")
    seconds, calls = 0.0, 0
    for place, step in enumerate(order):
        turn = replace(turn, share=turns.share(order[place:]))
        if step == "p":
            found, cost = desk.search(turn)
            # The first search is the one above: its answers were in the cache.
            cost["seconds"] = searched["seconds"] if place == 0 else cost["seconds"]
        else:
            found, cost = desk.train(turn, hand_over=hand_over)
        base, why = turns.better(turn.base, found, branches.tuning_rewards(desk.night, found))
        seconds, calls = seconds + cost.pop("seconds"), calls + cost.pop("calls")
        turn = replace(turn, base=base, teacher=base if base.branch == "prompt" else None)
        label = " -> ".join(order[: place + 1])
        scores = [one.tune_score for one in found if step == "w"]
        if place:
            desk.measure(label, base, **cost, seconds=seconds, calls=calls, stood=why, tune_scores=scores)


@contextmanager
def opened(stage: demo.Stage, name: str, held_out: HeldOut, seed: int, out: Path | None) -> Iterator[Desk]:
    """The desk's project after its day: taken in, judged and mined."""
    folder = stage.folder / name
    folder.mkdir()
    settings = (stage.folder / "tracemill.toml").read_text(encoding="utf-8")
    settings = settings.replace('".tracemill/landing"', f'"{stage.folder}/.tracemill/landing"')
    settings = settings.replace('"feedback"\n', f'"{stage.folder}/feedback"\n', 1)
    if name == "marked":
        head, rest = settings.split("[[sources]]            # what the reviewers noted")
        rest = rest.split("[split]")[1]
        settings = head + '[[rewards]]\nkind = "python"\ncallable = "checks:judge"\n\n[split]' + rest
        (folder / "checks.py").write_text(CHECKER)
        (folder / "right.json").write_text("{}")
    (folder / "tracemill.toml").write_text(settings, encoding="utf-8")
    config = project.load(folder)
    Lake.create(config.lake_place).close()
    with Lake.open(config.lake_place) as lake:
        night = project.night(config, lake)
        ingesting.take_in_configured(night)
        if name == "marked":
            of = night.select("SELECT trajectory_id, session_id FROM trajectories").to_pylist()
            right = {row["trajectory_id"]: held_out.truth[row["session_id"]]["queue"] for row in of}
            (folder / "right.json").write_text(json.dumps(right))
        judging.score(night)
        judging.mine(night)
        lessons, left = learning.choose(night)
        if not lessons:
            raise SystemExit(f"nothing to learn from: {left}")
        with open_endpoint(night) as endpoint:
            yield Desk(
                name=name,
                seed=seed,
                night=night,
                lesson=lessons[0],
                endpoint=endpoint,
                held_out=held_out,
                out=out,
            )


def day(folder: Path, seed: int, desks: Sequence[str], out: Path | None) -> list[dict[str, Any]]:
    """One day of the demo's agent, and what each desk makes of it."""
    stage = demo.set_up(folder, seed, [(WORDINGS[0], 2), (WORDINGS[1], 1)], Output(as_json=True))
    rows: list[dict[str, Any]] = []
    with demo.model_server(stage):
        with demo.collector(stage):
            demo.work(stage, "day1", prompt=stage.example / "prompt.json", version="shipped")
        demo.review(stage, "day1", truth="truth.jsonl", rate=demo.REVIEWED, seed=seed)
        held_out = HeldOut(
            tickets=_rows(stage.folder / "tickets" / "day2.jsonl"),
            truth={row["session_id"]: row for row in _rows(stage.folder / "tickets" / "truth.jsonl")},
        )
        for name in desks:
            with opened(stage, name, held_out, seed, out) as desk:
                play(desk)
                rows += desk.rows
    return rows


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--desk", nargs="+", choices=["marked", "corrected"], default=["marked", "corrected"])
    parser.add_argument("--out", type=Path, help="a line for each artifact, as soon as it is measured")
    parser.add_argument("--quick", action="store_true", help="the corrected desk of one seed only")
    arguments = parser.parse_args()
    desks = ["corrected"] if arguments.quick else arguments.desk
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for seed in arguments.seeds[: 1 if arguments.quick else None]:
            rows += day(Path(scratch) / str(seed), seed, desks, arguments.out)
    print(machine(), file=sys.stderr)
    print(json.dumps({"runs": rows}))


if __name__ == "__main__":
    main()
