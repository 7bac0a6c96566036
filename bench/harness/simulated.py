"""A simulated support desk: a model whose success depends on its prompt, and the logs that it left.

A world (one seed) has ten kinds of ticket. Each kind comes in wordings ("sides"); four kinds have two sides with
different right codes, so that near tickets mislead there. What the model gets right:

* without help, each side with a chance of its own: high at four kinds, low at the six that need a rule;
* a line of the instructions that names the kind's topic and its policy, in any of their wordings, lifts the kind to
  92 %; a line with the topic and another kind's policy costs it 40 % of its chance; so much for contradictions;
* a demonstration of the same side takes away 65 % of the failures (the second 40 % of the rest, …), one of the same
  kind 20 %, one with another code costs 15 % of the chance;
* a line that asks for the bare code heals a format fault of 7 %; every line that says nothing costs 1.5 %, and so do
  each 300 characters beyond 2,400;
* luck is part the case's (it stays with the case), part the prompt's and the case's: fixed by seed and messages.

No optimizer is known here: the model sees chat messages only.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist

from tracemill.ids import content_id
from tracemill.records import Case, ChatRequest, Completion, Pool, Site, Template
from tracemill.study import Hint, Note, Voice

OPENING = "You answer tickets of {{company}}. Reply with the code of what is to be done."
BARE = ("bare code", "code alone", "only the code")

TOPICS = (
    ("parcel", "shipment", "package"),
    ("invoice", "bill", "statement"),
    ("password", "passphrase", "login secret"),
    ("contract", "agreement", "subscription"),
    ("router", "modem", "access point"),
    ("warranty", "guarantee", "coverage"),
    ("voucher", "coupon", "promo code"),
    ("appointment", "visit", "slot"),
    ("refill", "cartridge", "toner"),
    ("licence", "permit", "activation key"),
    ("battery", "accumulator", "power pack"),
    ("newsletter", "mailing list", "digest"),
    ("deposit", "down payment", "prepayment"),
    ("tariff", "rate plan", "price plan"),
)
POLICIES = (
    ("thirty days", "one month", "a month"),
    ("proof of purchase", "receipt", "till slip"),
    ("region", "country", "territory"),
    ("two approvals", "four eyes", "second signature"),
    ("serial number", "device number", "type plate"),
    ("weekend", "Saturday", "public holiday"),
    ("business account", "company customer", "trade buyer"),
    ("outstanding balance", "open debt", "arrears"),
    ("damage photo", "picture of the damage", "snapshot"),
    ("minor", "under age", "younger than eighteen"),
    ("first contact", "new customer", "never wrote before"),
    ("safety notice", "hazard", "recall"),
    ("tax number", "VAT id", "fiscal code"),
    ("loyalty tier", "gold status", "bonus level"),
)
CODES = ("K-CREDIT", "K-REPLACE", "K-ESCALATE", "K-RESEND", "K-REFUSE", "K-CALLBACK", "K-CLOSE")
SIDES = ("since Monday", "for three weeks", "again", "after the update", "before the move", "without notice")
FILLER = (
    "hello there, it is about my",
    "good morning, once more my",
    "I write because of the",
    "can somebody look at my",
    "nobody answers me about the",
)
ENDS = ("please help me soon", "what happens next", "I am waiting for an answer", "that cannot be right", "thank you")


@dataclass(frozen=True, slots=True)
class Side:
    """One wording of a kind: what is right for it, and how often the model knows that by itself."""

    words: str
    code: str
    base: float


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of ticket: its topic, the policy that its rule names, and its sides."""

    topic: tuple[str, ...]
    policy: tuple[str, ...]
    sides: tuple[Side, ...]
    weight: float

    @property
    def right(self) -> str:
        """Codes of the kind as a rule would say them."""
        return " or ".join(dict.fromkeys(side.code for side in self.sides))


def wording(text: str, known: Sequence[tuple[str, ...]]) -> int | None:
    """Which of the known things the text speaks of first, in any wording."""
    low = text.lower()
    places = [
        (low.find(word.lower()), number) for number, words in enumerate(known) for word in words if word.lower() in low
    ]
    return min(places)[1] if places else None


class World:
    """The kinds of one seed, the tickets drawn from them, and the model that answers them."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        rng = random.Random(f"world/{seed}")
        topics, policies = rng.sample(TOPICS, 10), rng.sample(POLICIES, 10)
        self.kinds = tuple(
            self._kind(rng, topic, policy, number)
            for number, (topic, policy) in enumerate(zip(topics, policies, strict=True))
        )
        self.topics = tuple(kind.topic for kind in self.kinds)
        self._effects: dict[str, tuple[dict[tuple[int, int], int], float]] = {}

    @staticmethod
    def _kind(rng: random.Random, topic: tuple[str, ...], policy: tuple[str, ...], number: int) -> Kind:
        """The first four need no rule, the next four split by side, the last two have one code but low chances."""
        codes = rng.sample(CODES, 2)
        words = rng.sample(SIDES, 3 if number < 4 else 2)
        if number < 4:
            sides = [Side(one, codes[0], rng.uniform(0.75, 0.95)) for one in words]
        elif number < 8:
            chances = rng.uniform(0.55, 0.8), rng.uniform(0.05, 0.2)
            sides = [Side(one, code, chance) for one, code, chance in zip(words, codes, chances, strict=True)]
        else:
            sides = [Side(one, codes[0], rng.uniform(0.1, 0.4)) for one in words]
        return Kind(topic, policy, tuple(sides), 1 / (1 + rng.random() * 2))

    def ticket(self, rng: random.Random, number: int) -> str:
        kind = rng.choices(self.kinds, weights=[one.weight for one in self.kinds])[0]
        side = rng.choice(kind.sides)
        return f"#{number:04}: {rng.choice(FILLER)} {rng.choice(kind.topic)} {side.words}, {rng.choice(ENDS)}"

    def place(self, ticket: str) -> tuple[Kind, Side]:
        kind = self.kinds[wording(ticket, self.topics) or 0]
        return kind, next(side for side in kind.sides if side.words in ticket)

    def right(self, ticket: str) -> str:
        return self.place(ticket)[1].code

    def reward(self, case: Case, output: str) -> float:
        """The verifier: 1 for the right code."""
        return float(output == self.right(str(case.values["ticket"])))

    def chance(self, messages: Sequence[dict[str, str]]) -> float:
        """How likely the model is right on the last message."""
        system, ticket = messages[0]["content"], messages[-1]["content"].removeprefix("Ticket: ")
        kind, side = self.place(ticket)
        lifted, all_round = self._instructions(system)
        number = self.kinds.index(kind)
        chance = side.base
        if (number, 1) in lifted:
            chance = max(chance, 0.92)
        miss = 1 - chance
        same, misled = 0, 0
        for asked, answered in pairwise(messages[1:-1]):
            if asked["role"] != "user":
                continue
            shown_kind, shown_side = self.place(asked["content"])
            if shown_kind is not kind:
                continue
            if shown_side is side and answered["content"] == side.code:
                miss *= 0.35 if same == 0 else 0.6
                same += 1
            elif answered["content"] == side.code:
                miss *= 0.8
            else:
                misled += 1
        chance = (1 - miss) * 0.85**misled * 0.6 ** lifted.get((number, 0), 0) * all_round
        length = sum(len(message["content"]) for message in messages)
        return float(chance * 0.985 ** (max(0, length - 2400) / 300))

    def _instructions(self, system: str) -> tuple[dict[tuple[int, int], int], float]:
        """Lines by (kind, whether the policy is its own), and what the text does to every case."""
        if system not in self._effects:
            found: dict[tuple[int, int], int] = {}
            empty, bare = 0, False
            for line in system.split("\n")[1:]:
                kind, policy = wording(line, self.topics), wording(line, POLICIES)
                if kind is not None and policy is not None:
                    key = (kind, int(POLICIES[policy] == self.kinds[kind].policy))
                    found[key] = found.get(key, 0) + 1
                elif wording(line, [BARE]) is not None:
                    bare = True
                elif line.strip():
                    empty += 1
            self._effects[system] = found, (1.0 if bare else 0.93) * 0.985**empty
        return self._effects[system]

    def complete(self, requests: Sequence[ChatRequest]) -> list[Completion]:
        """A ChatModel."""
        return [Completion(text=self._answer(request), tokens_in=100, tokens_out=3) for request in requests]

    def _answer(self, request: ChatRequest) -> str:
        messages = [dict(one) for one in request.messages]
        ticket = messages[-1]["content"].removeprefix("Ticket: ")
        right = self.right(ticket)
        luck = 0.8 * self._normal("case", ticket) + 0.6 * self._normal("try", messages)
        if NormalDist().cdf(luck) < self.chance(messages):
            return right
        wrong = [code for code in CODES if code != right]
        return wrong[int(content_id(self.seed, "wrong", ticket)[:4], 16) % len(wrong)]

    def _normal(self, *what: object) -> float:
        share = (int(content_id(self.seed, *what)[:13], 16) + 0.5) / 16**13
        return NormalDist().inv_cdf(share)


@dataclass(frozen=True, slots=True, kw_only=True)
class Logs:
    """What production left: cases to learn from, to tune on and to be held out; what was said; a finding or two."""

    site: Site
    train: tuple[Case, ...]
    tune: tuple[Case, ...]
    held_out: tuple[Case, ...]
    notes: dict[str, tuple[Note, ...]]
    hints: tuple[Hint, ...]


def logs(world: World, *, train: int = 120, tune: int = 40, held_out: int = 300) -> Logs:
    """Production's calls on tickets of the world. Half of the bad answers were put right by somebody; users or people
    complained of six in ten, half of these name the policy that was broken, one in ten of these the wrong one.
    """
    site = Site(
        site_id="desk",
        site_version="v1",
        agent_name="desk",
        model="small",
        template=Template(
            messages=(
                {"role": "system", "content": ["You answer tickets of ", {"slot": "company"}, OPENING.split("}}")[1]]},
                {"role": "user", "content": ["Ticket: ", {"slot": "ticket"}]},
            )
        ),
        params={"temperature": 0.0},
    )
    rng = random.Random(f"logs/{world.seed}")
    numbers = rng.sample(range(10_000), train + tune + held_out)
    notes: dict[str, tuple[Note, ...]] = {}
    made: list[Case] = []
    for place, number in enumerate(numbers):
        case, said = _logged(world, rng, number, "learn" if place < train + tune else "gate")
        made.append(case)
        if said is not None and place < train:
            notes[case.case_id] = (said,)
    failing: dict[int, list[Case]] = {}
    for case in made[:train]:
        if not case.reward:
            failing.setdefault(wording(str(case.values["ticket"]), world.topics) or 0, []).append(case)
    worst = sorted(failing, key=lambda kind: (-len(failing[kind]), kind))[:2]
    hints = tuple(
        Hint(
            finding_id=f"f{kind}",
            text=f"Tickets about {world.kinds[kind].topic[0]} fail more often than others.",
            trajectories=tuple(case.trajectory_id for case in failing[kind]),
            n_users=len(failing[kind]),
        )
        for kind in worst
    )
    return Logs(
        site=site,
        train=tuple(made[:train]),
        tune=tuple(made[train : train + tune]),
        held_out=tuple(made[train + tune :]),
        notes=notes,
        hints=hints,
    )


def _logged(world: World, rng: random.Random, number: int, pool: Pool) -> tuple[Case, Note | None]:
    ticket = world.ticket(rng, number)
    kind, side = world.place(ticket)
    chance = world.chance([{"role": "system", "content": "x"}, {"role": "user", "content": f"Ticket: {ticket}"}])
    luck = 0.8 * world._normal("case", ticket) + 0.6 * rng.gauss(0, 1)
    good = NormalDist().cdf(luck) < chance
    output = side.code if good else rng.choice([code for code in CODES if code != side.code])
    said = None
    if not good and rng.random() < 0.6:
        voice: Voice = rng.choice(("user", "person"))
        text = "No, that was not what I needed."
        if rng.random() < 0.5:
            policy = kind.policy if rng.random() < 0.9 else rng.choice(POLICIES)
            text = f"No, you have to look at the {rng.choice(policy)} first."
        said = Note(voice=voice, text=text)
    case = Case(
        case_id=f"t{number:04}/0",
        trajectory_id=f"t{number:04}",
        step=0,
        site_id="desk",
        task_key=None,
        task_group=f"g{number:04}",
        pool=pool,
        values={"company": "ACME", "ticket": ticket},
        logged_messages=(),
        logged_output=output,
        reward=float(good),
        correction=side.code if not good and rng.random() < 0.5 else None,
    )
    return case, said


def headroom(world: World, cases: Sequence[Case]) -> float:
    """The mean chance with every rule and no fault: what instructions can reach at most."""
    rules = [f"- {kind.topic[0]}: {kind.policy[0]}" for kind in world.kinds] + [f"- {BARE[0]}"]
    system = "\n".join([OPENING.replace("{{company}}", "ACME"), *rules])
    return math.fsum(
        world.chance(
            [{"role": "system", "content": system}, {"role": "user", "content": f"Ticket: {case.values['ticket']}"}]
        )
        for case in cases
    ) / len(cases)
