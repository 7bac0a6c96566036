"""Reviewers at the desk: they look at a random sample of sessions and note whether the route was right.

    python reviewer.py --desk desk.jsonl --truth truth.jsonl --rate 0.7 --out feedback.jsonl

Every session has the same chance `--rate` of being looked at, whatever became of it; the chance is written beside each
review, so that whoever learns from the reviews can weigh them. Reviewers know their queues: here, from the truth file.
"""

import argparse
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

REVIEWERS = ("ana", "ben", "chi")


def reviews(
    desk: Sequence[Mapping[str, Any]], truth: Mapping[str, str], *, rate: float, draw: random.Random
) -> Iterator[dict[str, Any]]:
    """Feedback rows for a sample of the desk's sessions; `truth` maps session ids to the right queue."""
    # the order in which concurrent workers finished must not decide who is drawn
    for row in sorted(desk, key=lambda row: str(row["session_id"])):
        looked_at = draw.random() < rate
        user = draw.choice(REVIEWERS)
        if looked_at:
            right = truth[row["session_id"]]
            yield {
                "session_id": row["session_id"],
                "name": "review",
                "value": int(row["queue"] == right),
                "correction": right,
                "propensity": rate,
                "source": "human",
                "user": user,
            }


def permuted(truth: Mapping[str, str], draw: random.Random) -> dict[str, str]:
    """The control: the same labels, dealt to sessions at random, so that there is nothing to learn from them."""
    labels = list(truth.values())
    draw.shuffle(labels)
    return dict(zip(truth, labels, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--desk", type=Path, required=True, help="what the agent wrote")
    parser.add_argument("--truth", type=Path, required=True, help="session_id and queue, JSONL")
    parser.add_argument("--out", type=Path, required=True, help="feedback, JSONL")
    parser.add_argument("--rate", type=float, default=0.7, help="chance of a session to be looked at")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--permute", action="store_true", help="labels dealt at random: nothing should be promoted")
    arguments = parser.parse_args()
    if not 0 < arguments.rate <= 1:
        parser.error("--rate is a probability above 0")

    draw = random.Random(arguments.seed)
    desk = _rows(arguments.desk)
    known = {row["session_id"]: row["queue"] for row in _rows(arguments.truth)}
    truth = {row["session_id"]: known[row["session_id"]] for row in desk}
    if arguments.permute:
        truth = permuted(truth, draw)
    with arguments.out.open("w", encoding="utf-8") as feedback:
        for review in reviews(desk, truth, rate=arguments.rate, draw=draw):
            feedback.write(json.dumps(review) + "\n")


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    main()
