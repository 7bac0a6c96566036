"""What it is worth that descriptions of tools may be written, too, on a simulated agent.

    python bench/tool_descriptions.py [--quick] [--seeds N] [--calls N]

The agent has six tools, described vaguely; twelve kinds of ticket, two for each tool, which it takes for the right
one with a chance of 20 to 60 %. A description that names the kind lifts that to 92 %; one of another tool that names
it halves the chance, unless it says "not for". A line of the instructions that names kind and tool lifts it to 92 %,
too, in the world `either` (instructions can say all that descriptions can), to 65 % in the world `descriptions` (a
model that goes by its tools). Each 300 characters that prompt and descriptions have above production's cost 1.5 %.
What the agent does on one ticket is fixed by seed, messages and tools.

The model that writes sees the request alone: a ticket with the right call, or with a call that earned all, tells it
the tool of that kind with a chance of 85 %; a wrong call that the called tool is not for it with 60 %. It writes at
most three new sentences, and one of ten is wrong. Half of the bad calls in the logs were put right by somebody.

A seed is a world with 120 cases to learn from, 40 to tune on, 300 held out; every search has the same budget of
calls, the writer's included, and runs as in a night (Study, SingleStep, replay cache, ledger, lint). Lift is the
held-out reward of the prompt with the best tuning score minus production's. Intervals are 95 % over seeds (Student's
t); `gain` is the paired difference that the setting makes. Prints one JSON object as its last line.
"""

import argparse
import json
import random
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from harness import machine
from harness.searching import Rows, interval, knobs, shown
from harness.writing import Asked, Writer

from tracemill.ids import canonical_json, content_id
from tracemill.optimize import portfolio
from tracemill.optimize.artifact import baseline
from tracemill.optimize.components import descriptions
from tracemill.optimize.ladder import SingleStep, one_by_one
from tracemill.optimize.optimizers import build
from tracemill.optimize.replay import Budget, CachedModel, Ledger
from tracemill.optimize.search import PromptModel, tune_score
from tracemill.records import Artifact, Candidate, Case, ChatRequest, Completion, Site, Template
from tracemill.study import Study

KINDS = (
    "parcel", "invoice", "password", "contract", "router", "warranty",
    "voucher", "appointment", "cartridge", "licence", "battery", "deposit",
)  # fmt: skip
TOOLS = ("open_case", "look_up", "plan_visit", "send_part", "book_money", "change_account")
VAGUE = "Handles what clients ask for."
WORLDS = {"either": 0.92, "descriptions": 0.65}
NAMES = ("gepa", "apo")
OPENING = "You help clients of {{company}}. Call the tool that fits."
_SENTENCE = re.compile(r"[Ff]or an? (\w+) call (\w+)")
_NOT = re.compile(r"[Nn]ot for an? (\w+)")


def call(tool: str, kind: str) -> dict[str, Any]:
    return {"id": "c1", "type": "function", "function": {"name": tool, "arguments": json.dumps({"about": kind})}}


class World:
    """The kinds of one seed, and the agent that answers their tickets: a ChatModel."""

    def __init__(self, seed: int, told: float) -> None:
        """`told`: the chance where instructions alone name kind and tool."""
        self.seed = seed
        self.told = told
        rng = random.Random(f"tools/{seed}")
        kinds = rng.sample(KINDS, len(KINDS))
        self.tool = {kind: TOOLS[place // 2] for place, kind in enumerate(kinds)}
        self.base = {kind: rng.uniform(0.2, 0.6) for kind in kinds}

    def ticket(self, rng: random.Random, number: int) -> str:
        return f"#{number:04}: it is about my {rng.choice(KINDS)}, please help"

    def kind(self, ticket: str) -> str:
        return next(kind for kind in KINDS if kind in ticket)

    def right(self, kind: str) -> str:
        return canonical_json([call(self.tool[kind], kind)])

    def reward(self, case: Case, output: str) -> float:
        return float(output == self.right(self.kind(str(case.values["ticket"]))))

    def chance(self, kind: str, system: str, told: Mapping[str, str]) -> float:
        chance = self.base[kind]
        said = dict(_SENTENCE.findall(system))
        if kind in said:
            chance = max(chance, self.told) if said[kind] == self.tool[kind] else 0.6 * chance
        for tool, text in told.items():
            refused = kind in _NOT.findall(text)
            named = kind in text and not refused
            if tool == self.tool[kind]:
                chance = 0.5 * chance if refused else max(chance, 0.92) if named else chance
            elif named:
                chance *= 0.5
        length = len(system) + sum(map(len, told.values()))
        return float(chance * 0.985 ** (max(0, length - len(OPENING) - len(TOOLS) * len(VAGUE)) / 300))

    def complete(self, requests: Sequence[ChatRequest]) -> list[Completion]:
        return [Completion(text=None, tool_calls=(self._call(one),), tokens_in=200, tokens_out=9) for one in requests]

    def _call(self, request: ChatRequest) -> dict[str, Any]:
        ticket = str(request.messages[-1]["content"])
        kind = self.kind(ticket)
        told = {one["function"]["name"]: str(one["function"].get("description", "")) for one in request.tools or ()}
        # Part of the luck stays with the ticket: mean of two draws, made even again.
        one, two = self._draw("ticket", ticket), self._draw(request.messages, request.tools)
        luck = (one + two) / 2
        even = 2 * luck * luck if luck < 0.5 else 1 - 2 * (1 - luck) ** 2
        if even < self.chance(kind, str(request.messages[0]["content"]), told):
            return call(self.tool[kind], kind)
        wrong = [tool for tool in TOOLS if tool != self.tool[kind]]
        return call(wrong[int(self._draw("wrong", ticket) * len(wrong))], kind)

    def _draw(self, *what: object) -> float:
        return (int(content_id(self.seed, *what)[:13], 16) + 0.5) / 16**13


class DescribingWriter(Writer):
    """A ChatModel that writes what the request lets it see; see the module."""

    def reply(self, rng: random.Random, wanted: Asked) -> str:
        shown = wanted.shown
        field = next(one for one in ("critique", "new_description", "new_instruction") if one in wanted.fields)
        right, wrong = self._read(rng, shown)
        if field == "critique":
            text = " ".join(f"For a {kind} call {tool}." for kind, tool in right.items()) or "Nothing is clear."
        elif field == "new_instruction":
            text = self._instructions(rng, shown, right)
        else:
            text = self._description(rng, shown, right, wrong)
        return json.dumps({field: text})

    def _read(self, rng: random.Random, shown: str) -> tuple[dict[str, str], dict[str, str]]:
        """Kind -> tool that is right, and kind -> tool that was called in vain, as far as it takes them in."""
        right: dict[str, str] = {}
        wrong: dict[str, str] = {}
        said = shown.split("<critique>")[-1] if "<critique>" in shown else ""
        right.update({kind: tool for kind, tool in _SENTENCE.findall(said) if kind in KINDS})
        for window in re.split(r"(?=#\d{4}: )", shown)[1:]:
            kind = next((one for one in KINDS if one in window[:60]), None)
            before, _, after = window.partition("The right answer:")
            tools = [[one for one in re.findall(r"[a-z]+_[a-z]+", part) if one in TOOLS] for part in (before, after)]
            known = tools[1][:1] or (tools[0][:1] if "earned 1.00" in window else [])
            if kind is None:
                continue
            if known and rng.random() < 0.85:
                right[kind] = known[0] if rng.random() < 0.9 else rng.choice(TOOLS)
            if "earned 0.00" in window and tools[0] and rng.random() < 0.6:
                wrong[kind] = tools[0][0]
        return right, wrong

    @staticmethod
    def _instructions(rng: random.Random, shown: str, right: Mapping[str, str]) -> str:
        old = re.findall(re.escape(OPENING) + r"(?:\s*\n- For an? \w+ call \w+\.)*", shown)
        lines = dict(_SENTENCE.findall(old[-1] if old else ""))
        new = rng.sample(sorted(right), min(3, len(right)))
        lines.update({kind: right[kind] for kind in new})
        return "\n".join([OPENING, *(f"- For a {kind} call {tool}." for kind, tool in lines.items())])

    @staticmethod
    def _description(rng: random.Random, shown: str, right: Mapping[str, str], wrong: Mapping[str, str]) -> str:
        found = re.search(r"may call the tool (\w+)", shown)
        now = re.search(r"<description>\n(.*?)\n</description>", shown, re.DOTALL)
        assert found is not None
        assert now is not None
        tool, text = found[1], now[1].strip()
        mine = [kind for kind, one in right.items() if one == tool and kind not in text]
        others = [kind for kind, one in wrong.items() if one == tool and kind not in text and right.get(kind) != tool]
        more = [f"For a {kind}." for kind in mine] + [f"Not for a {kind}." for kind in others]
        return " ".join([text, *rng.sample(more, min(3, len(more)))])


def logs(world: World) -> tuple[Site, list[Case]]:
    takes = {"type": "object", "properties": {"about": {"type": "string"}}}
    tools = tuple(
        {"type": "function", "function": {"name": one, "description": VAGUE, "parameters": takes}} for one in TOOLS
    )
    system = {"role": "system", "content": ["You help clients of ", {"slot": "company"}, OPENING.split("}}")[1]]}
    site = Site(
        site_id="desk",
        site_version="v1",
        agent_name="desk",
        model="small",
        template=Template(messages=(system, {"role": "user", "content": [{"slot": "ticket"}]}), tools=tools),
    )
    rng = random.Random(f"logs/{world.seed}")
    cases = []
    for place, number in enumerate(rng.sample(range(10_000), 460)):
        ticket = world.ticket(rng, number)
        kind = world.kind(ticket)
        good = rng.random() < world.base[kind]
        bad = rng.choice([tool for tool in TOOLS if tool != world.tool[kind]])
        cases.append(
            Case(
                case_id=f"t{number:04}/0",
                trajectory_id=f"t{number:04}",
                step=0,
                site_id="desk",
                task_key=None,
                task_group=f"g{number:04}",
                pool="learn" if place < 160 else "gate",
                values={"company": "ACME", "ticket": ticket},
                logged_messages=(),
                logged_output=world.right(kind) if good else canonical_json([call(bad, kind)]),
                calls_tools=True,
                reward=float(good),
                correction=world.right(kind) if not good and rng.random() < 0.5 else None,
            )
        )
    return site, cases


def search(name: str, world: World, calls: int, *, on: bool) -> tuple[float, float, int]:
    """Lift, production's held-out reward, and how many tools the best prompt describes otherwise."""
    site, cases = logs(world)
    ledger = Ledger(Budget(calls=calls))
    grade = one_by_one(world.reward)

    def replay(ledger: Ledger) -> SingleStep:
        return SingleStep(
            model=CachedModel(world, Rows(), ledger, now_ns=1), grade=grade, valid=lambda case, output: bool(output)
        )

    study = Study(
        site=site,
        baseline=baseline(site),
        train=tuple(cases[:120]),
        tune=tuple(cases[120:160]),
        replay=replay(ledger),
    )
    reflection = PromptModel(chat=CachedModel(DescribingWriter(world.seed), Rows(), ledger, now_ns=1), name="large")
    made = build(name, seed=world.seed, reflection=reflection, tool_descriptions=on, **knobs(name, calls))
    errors: list[str] = []
    found: list[Candidate] = portfolio.run(
        study,
        [made],
        on_candidate=lambda one: None,
        on_error=lambda who, error: errors.append(f"{who}: {error!r}"),
    ).candidates
    failed = [one for one in errors if "BudgetError" not in one]
    if failed:
        raise RuntimeError(failed[0])
    best = max(found, key=lambda one: one.tune_score or 0.0)
    beside = replay(Ledger(Budget()))

    def held_out(artifact: Artifact) -> float:
        return tune_score(cases[160:], beside(artifact, cases[160:]))[0] or 0.0

    production = held_out(study.baseline)
    changed = sum(text != VAGUE for text in descriptions(best.artifact).values())
    return held_out(best.artifact) - production, production, changed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="3 seeds of 400 calls")
    parser.add_argument("--seeds", type=int, default=None)
    parser.add_argument("--calls", type=int, default=None, help="budget of a search (default 1000)")
    args = parser.parse_args()
    seeds, calls = args.seeds or (3 if args.quick else 20), args.calls or (400 if args.quick else 1000)
    print(machine())
    result: dict[str, Any] = {"seeds": seeds, "calls": calls}
    began = time.process_time()
    for kind, told in WORLDS.items():
        for name in NAMES:
            runs = {
                on: [search(name, World(seed, told), calls, on=on) for seed in range(seeds)] for on in (False, True)
            }
            lifts = {on: [one[0] for one in done] for on, done in runs.items()}
            gain = [with_ - without for with_, without in zip(lifts[True], lifts[False], strict=True)]
            described = sum(one[2] for one in runs[True]) / seeds
            production = [one[1] for one in runs[True]]
            print(
                f"{kind:13}{name:6} production {shown(production)}  lift off {shown(lifts[False])}"
                f"  on {shown(lifts[True])}  gain {shown(gain)}  tools described {described:.1f}",
                flush=True,
            )
            result[f"{kind}/{name}"] = {
                "production": interval(production),
                "off": interval(lifts[False]),
                "on": interval(lifts[True]),
                "gain": interval(gain),
                "described": described,
            }
    result["cpu_s"] = round(time.process_time() - began, 1)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
