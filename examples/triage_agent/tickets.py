"""The mail of a shop's support desk, made up: seeded, so that the same seed writes the same days.

    python tickets.py --out work --seed 7 --wordings 160 50 --copies 2 1

writes day1.jsonl, day2.jsonl, … (session_id, text) and truth.jsonl (session_id, queue, wording). No wording of one day
occurs on another. Only the reviewers may see the truth file.
"""

import argparse
import json
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

WORDINGS = Path(__file__).with_name("wordings.txt")
NAMES = (
    "Anna", "Ben", "Carla", "David", "Emma", "Felix", "Grace", "Hugo", "Irene", "Jonas", "Karen", "Leo", "Maria",
    "Nils", "Olga", "Paul", "Rosa", "Simon", "Tina",
)  # fmt: skip
PRODUCTS = (
    "headset", "lamp", "kettle", "watch", "backpack", "tablet", "speaker", "chair", "keyboard", "monitor", "printer",
    "toaster",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """One way to say something that belongs into a queue."""

    queue: str
    template: str

    def ticket(self, draw: random.Random) -> str:
        return self.template.format(
            order=draw.randint(10_000, 99_999),
            amount=draw.randint(12, 180),
            day=draw.randint(3, 28),
            name=draw.choice(NAMES),
            product=draw.choice(PRODUCTS),
        )


def wordings(path: Path = WORDINGS) -> list[Wording]:
    """All wordings, in the order of the file."""
    found: list[Wording] = []
    queue = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if heading := re.fullmatch(r"\[(\w+)\]", line):
            queue = heading[1]
        elif line and not line.startswith("#"):
            found.append(Wording(queue=queue, template=line))
    return found


def split(every: Sequence[Wording], sizes: Sequence[int], draw: random.Random) -> list[list[Wording]]:
    """Disjoint random sets of these sizes, each with its queues as even as can be.

    Raises ValueError where there are not enough wordings.
    """
    if sum(sizes) > len(every):
        raise ValueError(f"{sum(sizes)} wordings wanted, {len(every)} there are")
    by_queue: dict[str, list[Wording]] = {}
    for wording in draw.sample(every, len(every)):
        by_queue.setdefault(wording.queue, []).append(wording)
    turns = _in_turns(list(by_queue.values()))
    return [[next(turns) for _ in range(size)] for size in sizes]


def _in_turns(piles: list[list[Wording]]) -> Iterator[Wording]:
    while any(piles):
        for pile in piles:
            if pile:
                yield pile.pop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--wordings", type=int, nargs="+", default=[160, 50], help="how many, for each day")
    parser.add_argument("--copies", type=int, nargs="+", default=[2, 1], help="tickets of each wording, for each day")
    arguments = parser.parse_args()
    if len(arguments.wordings) != len(arguments.copies):
        parser.error("--wordings and --copies want one number for each day")

    draw = random.Random(arguments.seed)
    every = wordings()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with (arguments.out / "truth.jsonl").open("w", encoding="utf-8") as truth:
        days = zip(split(every, arguments.wordings, draw), arguments.copies, strict=True)
        for day, (of_day, copies) in enumerate(days, start=1):
            mail = [(wording, wording.ticket(draw)) for wording in of_day for _ in range(copies)]
            draw.shuffle(mail)
            with (arguments.out / f"day{day}.jsonl").open("w", encoding="utf-8") as tickets:
                for number, (wording, text) in enumerate(mail, start=1):
                    session = f"day{day}-{number:04d}"
                    tickets.write(json.dumps({"session_id": session, "text": text}) + "\n")
                    known = {"session_id": session, "queue": wording.queue, "wording": every.index(wording)}
                    truth.write(json.dumps(known) + "\n")


if __name__ == "__main__":
    main()
