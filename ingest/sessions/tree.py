"""The tree that records of a session form by naming the record before them: edits and resumes fork it."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol


class Member(Protocol):
    """What the tree needs to know of a record."""

    key: str
    parent: str | None
    begins: bool
    logical: str | None
    session: str
    group: str
    ns: int | None
    said: list[Any]
    results: list[Any]
    call: str | None


class Tree:
    """Records by their place in the file. A parent always stands before its children, so there are no rings."""

    def __init__(self, nodes: Sequence[Member]) -> None:
        self._nodes = nodes
        self._heard: list[int | None] = []
        self._links: list[int | None] = []
        places: dict[str, int] = {}
        last: dict[tuple[str, str], int] = {}
        for at, node in enumerate(nodes):
            named = None if node.parent is None else places.get(node.parent)
            before = None if node.begins else named if named is not None else last.get((node.session, node.group))
            # Records that say nothing to the model are passed over: chains of them, with many calls behind, are long.
            silent = before is not None and not _speaks(nodes[before])
            self._heard.append(self._heard[before] if before is not None and silent else before)
            link = places.get(node.logical) if node.begins and node.logical is not None else before
            self._links.append(link)
            places[node.key] = last[node.session, node.group] = at
        self._branches = self._find_branches()

    def before(self, at: int) -> Iterator[int]:
        """The records before one in which something was said, the nearest first."""
        before = self._heard[at]
        while before is not None:
            yield before
            before = self._heard[before]

    def branch(self, at: int) -> tuple[str | None, int | None]:
        """The key of the record where this one left the main path, and when the main path went elsewhere.

        (None, None) on the main path: the way to what was said last, with the tool results and events along it.
        """
        return self._branches[at]

    def _find_branches(self) -> list[tuple[str | None, int | None]]:
        nodes, links = self._nodes, self._links
        roots: list[int] = []
        leaf: dict[int, int] = {}
        for at, node in enumerate(nodes):
            link = links[at]
            roots.append(at if link is None else roots[link])
            if node.said or node.call is not None:
                leaf[roots[at]] = at
        chain: set[int] = set()
        taken: dict[int, int] = {}
        for end in leaf.values():
            here: int | None = end
            while here is not None and here not in chain:
                chain.add(here)
                link = links[here]
                if link is not None:
                    taken[link] = here
                here = link
        answers = {(nodes[at].group, nodes[at].call) for at in chain if nodes[at].call is not None}
        found: list[tuple[str | None, int | None]] = []
        for at, node in enumerate(nodes):
            link = links[at]
            if link is not None and found[link][0] is not None:
                found.append(found[link])
            elif at in chain or link is None or not self._turns_away(node, answers):
                found.append((None, None))
            else:
                other = taken.get(link)
                found.append((node.key, None if other is None else nodes[other].ns))
        return found

    @staticmethod
    def _turns_away(node: Member, answers: set[tuple[str, str | None]]) -> bool:
        """Whether a record beside the main path is another way; results of parallel tools and events are not."""
        if node.call is not None:
            return (node.group, node.call) not in answers
        return bool(node.said)


def _speaks(node: Member) -> bool:
    return node.call is not None or bool(node.said or node.results)
