"""Are prompt templates found again in the logs? Synthetic call sites whose templates are known.

    python bench/templates.py [--sites 200] [--seed 0] [--quick]

Each site is a prompt of constant text and slots (dates, names, numbers, customer text, retrieved passages, JSON), some
with demonstrations, some edited half-way; its calls are logged as chat completions and taken in as any log. A site
counts as recovered when the template's constant text and the places of its slots are exactly those it was made of, in
every version. A limit stands beside it: what is found when slot values are masked only where they are digits, which is
what log templates are commonly mined with. Prints one JSON object as its last line.
"""

import argparse
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Piece = str | None
"""Constant text, or None for a slot."""
Message = tuple[str, list[Piece]]

_WORDS = (
    "order parcel refund invoice account login delivery street window battery screen contract garden kitchen engine "
    "ticket travel hotel flight train museum lesson doctor station market coffee winter summer morning yesterday slow "
    "broken missing late early heavy light green yellow strange empty double wrong small large never always twice"
)
WORDS = _WORDS.split()
_NAMES = (
    "Ada Berg,Luis Ortega,Mei Tanaka,Olu Adeyemi,Petra Novak,Sam Weiss,Ines Duarte,Karim Haddad,Tove Lind,Ravi Menon,"
    "Gwen Price,Marek Zima"
)
NAMES = _NAMES.split(",")
ROLES = ("a careful support agent", "an analyst", "a patient tutor", "a code reviewer", "a travel planner", "an editor")
RULES = (
    "Answer in one short paragraph.",
    "Answer with one word only: yes, no or unknown.",
    "Cite the passage that you rely on.",
    "Never promise a date.",
    "If something is missing, ask for it.",
    "Write JSON with the keys label and reason.",
    "Keep numbers exactly as they are given.",
)
LABELS = ("Ticket", "Question", "Customer", "Context", "Passage", "Notes", "Order", "Region", "Draft", "Request")


def sentence(rng: random.Random) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(rng.randint(4, 14))).capitalize() + rng.choice(".?!")


VALUES = {
    "date": lambda rng: f"{rng.randint(2021, 2027)}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}",
    "name": lambda rng: rng.choice(NAMES),
    "number": lambda rng: str(rng.randint(1, 99_999)),
    "text": lambda rng: " ".join(sentence(rng) for _ in range(rng.randint(1, 4))),
    "passages": lambda rng: "\n\n".join(f"[{i + 1}] {sentence(rng)} {sentence(rng)}" for i in range(rng.randint(1, 5))),
    "json": lambda rng: json.dumps({rng.choice(WORDS): rng.randint(1, 999), rng.choice(WORDS): rng.choice(NAMES)}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A call site that was made up: its versions, oldest first, and what fills the slots of each."""

    agent: str
    versions: list[list[Message]]
    kinds: list[list[str]]


def system(rng: random.Random, agent: str) -> tuple[list[Piece], list[str]]:
    """The system prompt, and what kinds of value fill it."""
    rules = rng.sample(RULES, rng.randint(1, 4))
    pieces: list[Piece] = [f"You are {agent}, {rng.choice(ROLES)}. {' '.join(rules)}"]
    kinds: list[str] = []
    for label, kind in rng.sample([("Today is", "date"), ("You speak with", "name"), ("Open tickets:", "number")], 2):
        if rng.random() < 0.35:
            pieces[-1] = f"{pieces[-1]}\n{label} "
            pieces += [None, "."]
            kinds.append(kind)
    return pieces, kinds


def user(rng: random.Random) -> tuple[list[Piece], list[str]]:
    pieces: list[Piece] = []
    kinds: list[str] = []
    opening = rng.choice(("", f"{sentence(rng)}\n\n", f"# {rng.choice(LABELS)} of the day\n"))
    for label in rng.sample(LABELS, rng.randint(1, 3)):
        kind = rng.choice(("text", "text", "passages", "json", "name", "number", "date"))
        fence = rng.choice((": ", ":\n", f"\n<{label.lower()}>\n"))
        close = f"\n</{label.lower()}>\n" if "<" in fence else "\n"
        pieces += [f"{opening}{label}{fence}", None]
        opening = close
        kinds.append(kind)
    if opening != "\n" or rng.random() < 0.5:
        pieces.append(f"{opening}{rng.choice(RULES)}")
    return pieces, kinds


def make(rng: random.Random, number: int) -> Known:
    agent = f"agent-{number}"
    said, told = system(rng, agent)
    asked, filled = user(rng)
    pairs: list[Message] = []
    if rng.random() < 0.3:
        for _ in range(rng.randint(1, 3)):
            pairs += [("user", [sentence(rng)]), ("assistant", [rng.choice(WORDS)])]
    versions: list[list[Message]] = [[("system", said), *pairs, ("user", asked)]]
    kinds = [[*told, *filled]]
    if rng.random() < 0.3:  # an edit of the prompt, half-way
        edited: list[Piece] = [f"{said[0]}", *said[1:]]
        edited[0] = str(edited[0]).replace("You are", f"{rng.choice(RULES)} You are", 1)
        versions.append([("system", edited), *pairs, ("user", asked)])
        kinds.append(kinds[0])
    return Known(agent=agent, versions=versions, kinds=kinds)


def calls(rng: random.Random, site: Known, at: float) -> tuple[list[dict[str, Any]], list[list[list[str]]]]:
    """Logged calls of a site, chat completions as a gateway writes them; and the slot values, by version and call."""
    found = []
    filled: list[list[list[str]]] = []
    for messages, kinds in zip(site.versions, site.kinds, strict=True):
        filled.append([])
        for _ in range(rng.randint(30, 80)):
            filled[-1].append([VALUES[kind](rng) for kind in kinds])
            values = iter(filled[-1][-1])
            said = [
                {"role": role, "content": "".join(next(values) if piece is None else piece for piece in pieces)}
                for role, pieces in messages
            ]
            at += rng.randint(1, 600)
            answer = {"role": "assistant", "content": sentence(rng)}
            found.append(
                {
                    "agent_name": site.agent,
                    "session_id": f"{site.agent}-{len(found)}-{at}",
                    "timestamp": at,
                    "messages": said,
                    "response": {"model": "m", "choices": [{"message": answer, "finish_reason": "stop"}]},
                }
            )
    return found, filled


def joined(pieces: list[Piece]) -> list[Piece]:
    """Neighbouring constants as one, so that two writings of one template are equal."""
    out: list[Piece] = []
    for piece in pieces:
        if piece is not None and out and out[-1] is not None:
            out[-1] = f"{out[-1]}{piece}"
        elif piece != "":
            out.append(piece)
    return out


def recovered(template: dict[str, Any]) -> list[Message]:
    return [
        (
            item.get("role", "conversation"),
            joined([p if isinstance(p, str) else None for p in item.get("content") or ()]),
        )
        for item in template["messages"]
    ]


def agree(wanted: list[Message], found: list[Message], values: list[list[str]]) -> bool:
    """Whether a template is the known one. What all logged values of a slot begin or end with may stand in the constant
    text beside it: no log can tell the two apart. `values` are those of one call each, in the order of the slots."""
    slots = iter(range(len(values[0])))
    if [role for role, _ in wanted] != [role for role, _ in found]:
        return False
    for (_, known), (_, pieces) in zip(wanted, found, strict=True):
        known = joined(known)
        mine = [next(slots) if piece is None else None for piece in known]
        shared = {at: _ends([row[at] for row in values]) for at in mine if at is not None}
        text = "".join("\0" if piece is None else piece for piece in pieces)
        allowed = "".join(
            _any_of(*shared[at]) if at is not None else re.escape(piece or "")
            for piece, at in zip(known, mine, strict=True)
        )
        if not re.fullmatch(allowed, text):
            return False
    return True


def _ends(values: list[str]) -> tuple[str, str]:
    """What all values begin with, and what they end with."""
    low, high = min(values), max(values)  # what these two share, all share
    first = next((low[:n] for n, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), low)
    turned = sorted(value[::-1] for value in values)
    last = next(
        (turned[0][:n] for n, (a, b) in enumerate(zip(turned[0], turned[-1], strict=False)) if a != b), turned[0]
    )
    return first, last[::-1]


def _any_of(first: str, last: str) -> str:
    """Matches a slot with any part of what its values share drawn out of it."""
    before = "|".join(re.escape(first[:n]) for n in range(len(first), -1, -1))
    after = "|".join(re.escape(last[n:]) for n in range(len(last) + 1))
    return f"(?:{before})\0(?:{after})"


def digits_only(texts: set[str]) -> bool:
    """Whether masking digits makes all prompts of a version one text."""
    return len({re.sub(r"\d+", "0", text) for text in texts}) == 1


def tracemill(project: Path, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tracemill", *arguments, "--json", "--project", str(project)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def run(folder: Path, *, sites: int, seed: int) -> dict[str, Any]:
    rng = random.Random(seed)
    known = [make(rng, number) for number in range(sites)]
    logs = folder / "calls.jsonl"
    masked = 0
    filled = []
    with logs.open("w") as file:
        for site in known:
            lines, values = calls(rng, site, 1_767_225_600.0)
            filled.append(values)
            masked += digits_only({line["messages"][-1]["content"] for line in lines})
            file.writelines(json.dumps(line) + "\n" for line in lines)
    project = folder / "project"
    project.mkdir()
    (project / "tracemill.toml").write_text('name = "templates"\n')
    tracemill(project, "init")
    began = time.perf_counter()
    tracemill(project, "ingest", str(logs))
    seconds = time.perf_counter() - began
    rows = tracemill(project, "sql", "SELECT agent_name, site_id, template FROM sites")["rows"]
    exact, wrong = 0, []
    for site, values in zip(known, filled, strict=True):
        found = [recovered(json.loads(text)) for agent, _, text in rows if agent == site.agent]
        pairs = list(zip(site.versions, values, strict=True))
        if len(found) == len(pairs) and all(any(agree(one, f, v) for f in found) for one, v in pairs):
            exact += 1
        else:
            wrong.append({"agent": site.agent, "wanted": site.versions, "found": found})
    one_site = sum(len({s for a, s, _ in rows if a == site.agent}) == 1 for site in known)
    (count,) = tracemill(project, "sql", "SELECT count(*), count(site_id) FROM transitions")["rows"]
    return {
        "sites": sites,
        "calls": count[0],
        "calls_rendered_back": count[1],
        "exact": exact,
        "exact_share": round(exact / sites, 4),
        "versions_in_one_site": round(one_site / sites, 4),
        "digits_masked_share": round(masked / sites, 4),
        "seconds": round(seconds, 1),
        "wrong": wrong[:5],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sites", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="20 sites")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        sites = 20 if arguments.quick else arguments.sites
        print(json.dumps(run(Path(scratch), sites=sites, seed=arguments.seed)))


if __name__ == "__main__":
    main()
