"""Identity of call sites: which site a recovered template is a version of."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from tracemill.ids import content_id
from tracemill.records import Template

_ALIKE = 0.5


def version_id(template: Template) -> str:
    """Content id of template and tools: site_version."""
    return content_id(list(template.messages), template.tools and list(template.tools))


def tool_names(template: Template) -> tuple[str, ...]:
    """Sorted names of the tools."""
    return tuple(sorted(str((tool.get("function") or tool).get("name")) for tool in template.tools or ()))


def _constant_words(template: Template, roles: Sequence[str]) -> frozenset[str]:
    texts = [
        piece
        for item in template.messages
        if item.get("role") in roles
        for piece in item.get("content", ())
        if isinstance(piece, str)
    ]
    words = [word for text in texts for word in re.findall(r"\w+", text.lower())]
    return frozenset(words) | {f"{a} {b}" for a, b in pairwise(words)}


def likeness(a: Template, b: Template) -> float:
    """How alike the constant text of two templates is, in [0, 1]: of the system prompts, where both have one.

    Demonstrations do not count: they are exchanged while the call stays the same. Two templates without constant text
    are alike.
    """
    first, second = _constant_words(a, ("system",)), _constant_words(b, ("system",))
    if not first and not second:
        first, second = _constant_words(a, ("user",)), _constant_words(b, ("user",))
    if not first and not second:
        return 1.0
    return len(first & second) / len(first | second)


@dataclass(slots=True, kw_only=True)
class Use:
    """When and where calls were seen: times in ns (None: undated) and the earliest step in a trajectory."""

    first_ns: int | None = None
    last_ns: int | None = None
    first_step: int | None = None

    def widen(self, other: "Use") -> None:
        self.first_ns = _pick(min, self.first_ns, other.first_ns)
        self.last_ns = _pick(max, self.last_ns, other.last_ns)
        self.first_step = _pick(min, self.first_step, other.first_step)

    def apart(self, other: "Use") -> bool:
        """Whether one ended before the other began, give or take a tenth of the shorter (a rolling deployment)."""
        times = (self.first_ns, self.last_ns, other.first_ns, other.last_ns)
        if any(time is None for time in times):
            return False
        a, b, c, d = (int(time) for time in times if time is not None)
        return min(b, d) - max(a, c) <= 0.1 * min(b - a, d - c)


def _pick(choose: Any, *values: int | None) -> int | None:
    known = [value for value in values if value is not None]
    return choose(known) if known else None


@dataclass(slots=True, kw_only=True)
class KnownSite:
    """One site while its versions are being sorted out."""

    site_id: str
    agent_name: str | None
    tools: tuple[str, ...]
    versions: dict[str, Template] = field(default_factory=dict)
    uses: dict[str, Use] = field(default_factory=dict)

    @property
    def use(self) -> Use:
        whole = Use()
        for use in self.uses.values():
            whole.widen(use)
        return whole


def site_for(
    sites: Iterable[KnownSite], template: Template, agent_name: str | None, use: Use, rivals: Mapping[str, Use]
) -> str:
    """The site that a new template belongs to; a new id where it belongs to none.

    Same agent and tools and alike in constant text: the most alike. Otherwise the one site that is called at the same
    step and fell silent before this template came up: its prompt was rewritten. `rivals` are sites that share a system
    prompt with this template but begin another kind of question; they are other places unless used at other times.
    """
    names = tool_names(template)
    mine = [
        site
        for site in sites
        if site.agent_name == agent_name
        and site.tools == names
        and not (site.site_id in rivals and not rivals[site.site_id].apart(use))
    ]
    scored = [(max(likeness(template, version) for version in site.versions.values()), site) for site in mine]
    alike = [(score, site) for score, site in scored if score >= _ALIKE]
    if alike:
        return max(alike, key=lambda pair: (pair[0], pair[1].site_id))[1].site_id
    before = [site for site in mine if site.use.first_step == use.first_step and site.use.apart(use)]
    if len(before) == 1:
        return before[0].site_id
    return content_id("site", agent_name, list(names), template.to_json())
