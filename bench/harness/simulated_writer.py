"""A simulated model that writes prompts: it can only write what the request lets it see.

It reads every request the same way, whichever optimizer asks. A prompt in it is the desk's opening line with the lines
that begin with "- " after it, a playbook's heading and numbered list among them; where several are shown, the last one
is what it starts from. All else is evidence, cut
into windows at ticket numbers ("#0481"). For each kind of ticket that the evidence shows:

* if a text there names the kind and a policy together (a complaint, a critique), it takes the policy over, with a
  chance of 80 %, right or wrong;
* else it finds the rule itself with a chance that grows with what it can compare: a window with a wrong and the right
  code leaves 75 % of its doubt, one with the right code alone 92 %, and it begins with a doubt of 98 %;
* if it finds none: 10 % a rule with another policy, 10 % a line about that one ticket, 5 % the ticket copied, else
  nothing.

It writes at most three new rules, and by chance (15 %) the common one that asks for the bare code; 30 % of its prompts
gain an empty phrase, 3 % lose the slot, 2 % speak of graders. Each old line is lost with a chance of 3 % and
reworded with one of 20 %. Asked for prose (a critique, a summary) it says the same rules in sentences. Its luck is
fixed by the request, sampling parameters included.
"""

import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from harness.simulated import BARE, CODES, OPENING, POLICIES, World, wording
from harness.writing import Asked, Writer

_PROMPT = re.compile(re.escape(OPENING) + r"(?:\s*\n[ \t]*(?:- |What experience |\[\d+\] |</?p|Its p)[^\n]*)*")
_WINDOW = re.compile(r"#\d{4}: ")
_EMPTY = (
    "Be thorough, polite and precise.",
    "Think carefully before you reply.",
    "Always put the client first.",
    "Take every detail into account.",
)


@dataclass(slots=True)
class _Seen:
    """What the evidence shows of one kind."""

    contrasts: int = 0
    rights: int = 0
    tickets: list[str] = field(default_factory=list)


class SimulatedWriter(Writer):
    """A ChatModel over the world's vocabulary; see the module."""

    def __init__(self, world: World) -> None:
        super().__init__(world.seed)
        self.world = world

    def reply(self, rng: random.Random, wanted: Asked) -> str:
        shown = wanted.shown
        prompts = _PROMPT.findall(shown)
        rules = self._rules(rng, _PROMPT.sub(" ", shown))
        start = prompts[-1] if prompts else OPENING
        return wanted.told({name: self._field(rng, name, start, rules, shown) for name in wanted.fields})

    def _field(
        self, rng: random.Random, name: str, prompt: str, rules: Mapping[int, str], shown: str
    ) -> str | dict[str, str] | list[str]:
        if name == "new_lines":
            said = {self._about(line) for line in prompt.split("\n")[1:]}
            return self._added(rng, {kind: line for kind, line in rules.items() if self._about(line) not in said})
        if "prefix" in name:
            return "Code:"
        if "advice" in name:
            modules = re.search(r"module_names ## \]\]\s*\[([^\]]*)\]", shown)
            names = re.findall(r"\w+", modules[1]) if modules else []
            return {one: "\n".join(self._added(rng, rules)) for one in names}
        if "instruction" in name:
            return self._prompt(rng, prompt, rules)
        lines = [line.removeprefix("- ") for line in self._added(rng, rules)]
        return " ".join(line.rstrip(".") + "." for line in lines) or "The tickets are short and differ by their topics."

    def _rules(self, rng: random.Random, evidence: str) -> dict[int, str]:
        """A line for each kind that it draws a conclusion about, in the order of the evidence."""
        seen, claims = self._read(evidence)
        found: dict[int, str] = {}
        for kind in [*seen, *(one for one in claims if one not in seen)]:
            facts = seen.get(kind, _Seen())
            own = self.world.kinds[kind]
            doubt = 0.98 * 0.75**facts.contrasts * 0.92 ** min(facts.rights, 6)
            draws = rng.random(), rng.random(), rng.random()
            if kind in claims and draws[0] < 0.8:
                policy: tuple[str, ...] = POLICIES[claims[kind].most_common(1)[0][0]]
            elif draws[1] > doubt:
                policy = own.policy
            elif draws[2] < 0.1:
                policy = rng.choice(POLICIES)
            else:
                if draws[2] < 0.25 and facts.tickets:
                    ticket = rng.choice(facts.tickets)
                    found[kind] = f"- {ticket}" if draws[2] > 0.2 else f"- {ticket[:5]} gets {rng.choice(CODES)}."
                continue
            found[kind] = self._line(rng, own.topic, policy)
        return found

    @staticmethod
    def _line(rng: random.Random, topic: Sequence[str], policy: Sequence[str]) -> str:
        form = rng.choice(
            ("When it is about a {0}, decide by the {1}.", "For a {0} check the {1} first.", "{0}: look at the {1}.")
        )
        return "- " + form.format(rng.choice(topic), rng.choice(policy))

    def _read(self, evidence: str) -> tuple[dict[int, _Seen], dict[int, Counter[int]]]:
        seen: dict[int, _Seen] = {}
        claims: dict[int, Counter[int]] = {}
        starts = [match.start() for match in _WINDOW.finditer(evidence)]
        bounds = [0, *starts, len(evidence)]
        for number, (start, end) in enumerate(pairwise(bounds)):
            window = evidence[start:end]
            if number:
                kind = wording(window[:120], self.world.topics)
                sides = [] if kind is None else [one for one in self.world.kinds[kind].sides if one.words in window]
                if kind is not None and sides:
                    facts = seen.setdefault(kind, _Seen())
                    codes = {code for code in CODES if code in window}
                    right = sides[0].code
                    facts.contrasts += int(len(codes) > 1 and right in codes)
                    facts.rights += int(codes == {right})
                    facts.tickets.append(re.split(r"['\"\\\n<]", window)[0][:90])
                    policy = wording(window, POLICIES)
                    if policy is not None:
                        claims.setdefault(kind, Counter())[policy] += 1
                continue
            self._claimed(window, claims)
        if len(bounds) > 2:  # what follows the last ticket may be sentences about others
            self._claimed(evidence[bounds[-2] :].partition("\n")[2], claims)
        return seen, claims

    def _claimed(self, text: str, claims: dict[int, Counter[int]]) -> None:
        for sentence in re.split(r"[.\n]", text):
            kind, policy = wording(sentence, self.world.topics), wording(sentence, POLICIES)
            if kind is not None and policy is not None:
                claims.setdefault(kind, Counter())[policy] += 1

    def _added(self, rng: random.Random, rules: Mapping[int, str]) -> list[str]:
        lines = rng.sample(list(rules.values()), min(3, len(rules)))
        if rng.random() < 0.15:
            lines.append(f"- Reply with the {rng.choice(BARE)}.")
        if rng.random() < 0.3:
            lines.append(f"- {rng.choice(_EMPTY)}")
        return lines

    def _prompt(self, rng: random.Random, prompt: str, rules: Mapping[int, str]) -> str:
        """The prompt again, with what the rules add; a rule about a kind takes the place of what stood there."""
        kept: dict[str, None] = {}
        said: set[tuple[int | None, int | None]] = set()
        for line in (line.strip() for line in prompt.split("\n")[1:] if line.strip()):
            kind, policy = self._about(line)
            stale = kind is not None and kind in rules and self._about(rules[kind])[1] not in (None, policy)
            draws = rng.random(), rng.random(), rng.random()
            if draws[0] < 0.03 or (stale and draws[1] < 0.7):
                continue
            if draws[2] < 0.2 and kind is not None and policy is not None:
                line = self._line(rng, self.world.topics[kind], POLICIES[policy])
            kept[line] = None
            said.add((kind, policy))
        new = {kind: line for kind, line in rules.items() if self._about(line) not in said}
        lines = [*kept, *(line for line in self._added(rng, new) if line not in kept)]
        if rng.random() < 0.02:
            lines.append("- The grader wants short replies.")
        opening = OPENING if rng.random() >= 0.03 else OPENING.replace("{{company}}", "the company")
        return "\n".join([opening, *lines])

    def _about(self, line: str) -> tuple[int | None, int | None]:
        return wording(line, self.world.topics), wording(line, POLICIES)
