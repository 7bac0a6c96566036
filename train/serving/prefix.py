"""Keys and values of prompts that were computed before, so that what requests share is computed once.

The requests of one call site differ in their last few tokens only; on a CPU their common part is nearly all the work.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch

Tokens = tuple[int, ...]
Layers = tuple[tuple[torch.Tensor, torch.Tensor], ...]
"""Per layer keys and values, each (1, heads, tokens, head size)."""

LEAST_SHARED = 16
"""Shorter common parts are not worth a forward pass of their own."""


def common(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the longest common prefix."""
    for index, (left, right) in enumerate(zip(a, b, strict=False)):
        if left != right:
            return index
    return min(len(a), len(b))


def families(prompts: Sequence[Tokens]) -> list[tuple[list[int], int]]:
    """Row numbers that share a long prefix, and its length; a row alone has its whole prompt but one token.

    The last token of a prompt is never shared: the model has to read it to say what comes next.
    """
    found: list[tuple[list[int], int]] = []
    for row in sorted(range(len(prompts)), key=lambda row: prompts[row]):
        own = len(prompts[row]) - 1
        if found:
            rows, shared = found[-1]
            both = min(common(prompts[rows[0]], prompts[row]), shared, own)
            # half: joining a distant relative would shrink the prefix of the whole family
            if both >= LEAST_SHARED and 2 * both >= shared:
                found[-1] = ([*rows, row], both)
                continue
        found.append(([row], own))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefix:
    """The first `length` tokens of a prompt, computed."""

    length: int
    layers: Layers


NOTHING = Prefix(length=0, layers=())


class PrefixStore:
    """The prefixes used last, per adapter, up to a number of tokens in all."""

    def __init__(self, max_tokens: int) -> None:
        self._max_tokens = max_tokens
        self._held: OrderedDict[tuple[str | None, Tokens], Layers] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def longest(self, adapter: str | None, tokens: Tokens) -> Prefix:
        """The longest known beginning of a prompt, its last token excepted."""
        best, key = 0, None
        for held in reversed(self._held):
            if held[0] == adapter:
                length = min(common(held[1], tokens), len(tokens) - 1)
                if length > best:
                    best, key = length, held
        if key is None:
            return NOTHING
        self._held.move_to_end(key)
        return Prefix(length=best, layers=tuple((k[:, :, :best], v[:, :, :best]) for k, v in self._held[key]))

    def keep(self, adapter: str | None, tokens: Tokens, layers: Layers) -> None:
        """Takes a computed prefix in and lets the ones unused longest go."""
        self._held[(adapter, tokens)] = layers
        self._held.move_to_end((adapter, tokens))
        while sum(len(held[1]) for held in self._held) > self._max_tokens:
            self._held.popitem(last=False)

    def forget(self, adapter: str | None) -> None:
        """Drops what was computed with an adapter that is going away."""
        for held in [held for held in self._held if held[0] == adapter]:
            del self._held[held]
