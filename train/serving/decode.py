"""Generates for a batch of prompts at once, with the result that each prompt would have had alone.

Columns of a batch: the rows' known prefixes end in the same column, the unread parts of the prompts end in the same
column, and one column follows per generated token. What is not a row's own is masked; positions are counted per row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from tracemill.train.serving.prefix import LEAST_SHARED, Layers, Prefix, PrefixStore, Tokens, families


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How tokens are drawn. Equal seeds give equal draws whatever else is in the batch."""

    temperature: float = 1.0
    """0 takes the most probable token."""
    top_p: float = 1.0
    max_tokens: int = 256
    seed: int = 0
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """What was generated for one prompt."""

    text: str
    token_ids: tuple[int, ...]
    """With the end token, where the model ended by itself."""
    logprobs: tuple[float, ...]
    """Of token_ids under the distribution they were drawn from: temperature and top_p applied. Greedy tokens, whose
    distribution is degenerate, carry the model's own log-probability (temperature 1)."""
    finish_reason: Literal["stop", "length"]
    cached_tokens: int


class _Row:
    """One prompt's generation as it grows."""

    def __init__(self, tokens: Tokens, sampling: Sampling, cached: int) -> None:
        self.tokens = tokens
        self.sampling = sampling
        self.cached = cached
        self.out: list[int] = []
        self.logprobs: list[float] = []
        self.text: str | None = None
        self.ended = False
        self.generator = torch.Generator().manual_seed(sampling.seed)

    def take(self, logits_V: torch.Tensor) -> int:
        """Draws the next token from this row's logits and remembers it."""
        sampling = self.sampling
        if sampling.temperature == 0:
            token = int(logits_V.argmax())
            logprob = float(logits_V[token] - logits_V.logsumexp(-1))
        else:
            logp_V = torch.log_softmax(logits_V / sampling.temperature, dim=-1)
            if sampling.top_p < 1:
                logp_V = nucleus(logp_V, sampling.top_p)
            token = int(torch.multinomial(logp_V.exp().cpu(), 1, generator=self.generator))
            logprob = float(logp_V[token])
        self.out.append(token)
        self.logprobs.append(logprob)
        return token

    def check_end(self, token: int, ends: frozenset[int], tokenizer: Any) -> None:
        """Sets `ended` at an end token, a stop string or the length limit."""
        if token in ends:
            self.ended = True
            self.text = tokenizer.decode(self.out[:-1], skip_special_tokens=True)
        elif self.sampling.stop:
            text = tokenizer.decode(self.out, skip_special_tokens=True)
            cuts = [at for at in (text.find(stop) for stop in self.sampling.stop) if at >= 0]
            if cuts:
                self.ended, self.text = True, text[: min(cuts)]

    @property
    def finished(self) -> bool:
        return self.ended or len(self.out) >= self.sampling.max_tokens

    def result(self, tokenizer: Any) -> Generation:
        return Generation(
            text=self.text if self.text is not None else tokenizer.decode(self.out, skip_special_tokens=True),
            token_ids=tuple(self.out),
            logprobs=tuple(self.logprobs),
            finish_reason="stop" if self.ended else "length",
            cached_tokens=self.cached,
        )


def nucleus(logp_V: torch.Tensor, top_p: float) -> torch.Tensor:
    """The smallest set of likeliest tokens that holds `top_p` of the probability, renormalised."""
    sorted_logp, order = logp_V.sort(descending=True)
    before = sorted_logp.exp().cumsum(-1) - sorted_logp.exp()
    kept = torch.full_like(logp_V, float("-inf"))
    inside = order[before < top_p]
    kept[inside] = logp_V[inside]
    return kept - kept.logsumexp(-1)


def generate(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Tokens],
    samplings: Sequence[Sampling],
    *,
    ends: frozenset[int],
    store: PrefixStore,
    adapter: str | None,
) -> list[Generation]:
    """Generations in the order of the prompts. `adapter` only names the prefixes; the caller has switched it on."""
    with torch.inference_mode():
        return _generate(model, tokenizer, prompts, samplings, ends, store, adapter)


def _generate(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Tokens],
    samplings: Sequence[Sampling],
    ends: frozenset[int],
    store: PrefixStore,
    adapter: str | None,
) -> list[Generation]:
    alone = _share(model, prompts, store, adapter)
    prefixes = [store.longest(adapter, tokens) for tokens in prompts]
    rows = [
        _Row(tokens, sampling, prefix.length)
        for tokens, sampling, prefix in zip(prompts, samplings, prefixes, strict=True)
    ]
    cache, valid_BK, logits_BV = _prefill(model, prompts, prefixes)
    for row in alone:
        if len(prompts[row]) - prefixes[row].length >= LEAST_SHARED:
            columns = valid_BK[row].nonzero()[:, 0]
            layers = tuple(
                (layer.keys[row : row + 1, :, columns], layer.values[row : row + 1, :, columns])
                for layer in cache.layers
            )
            store.keep(adapter, prompts[row], layers)

    alive = list(range(len(rows)))
    while True:
        drawn = [rows[row].take(logits_BV[at]) for at, row in enumerate(alive)]
        for row, token in zip(alive, drawn, strict=True):
            rows[row].check_end(token, ends, tokenizer)
        going = [at for at, row in enumerate(alive) if not rows[row].finished]
        if not going:
            break
        if len(going) < len(alive):
            # finished rows leave at once: on a CPU every row of a step costs
            index = torch.tensor(going, device=valid_BK.device)
            cache.batch_select_indices(index)
            valid_BK = valid_BK[index]
            alive = [alive[at] for at in going]
            drawn = [drawn[at] for at in going]
        valid_BK = torch.cat([valid_BK, valid_BK.new_ones(len(alive), 1)], dim=1)
        places = [[len(rows[row].tokens) + len(rows[row].out) - 1] for row in alive]
        logits_BV = _forward(
            model,
            torch.tensor([[token] for token in drawn]),
            torch.tensor(places),
            valid_BK[:, None, None, :],
            cache,
        )
    return [row.result(tokenizer) for row in rows]


def _share(model: Any, prompts: Sequence[Tokens], store: PrefixStore, adapter: str | None) -> list[int]:
    """Computes what several prompts have in common into the store; the numbers of the prompts without relatives."""
    alone: list[int] = []
    for rows, shared in families(prompts):
        if len(rows) == 1:
            alone.extend(rows)
            continue
        head = prompts[rows[0]][:shared]
        known = store.longest(adapter, (*head, -1))
        if shared - known.length >= LEAST_SHARED:
            cache, _, _ = _prefill(model, [head], [known])
            store.keep(adapter, head, tuple((layer.keys, layer.values) for layer in cache.layers))
    return alone


def _prefill(
    model: Any, prompts: Sequence[Tokens], prefixes: Sequence[Prefix]
) -> tuple[Any, torch.Tensor, torch.Tensor]:
    """Cache, valid columns (B, K) and the logits (B, V) after the last prompt token of every row."""
    from transformers import DynamicCache

    P = max(prefix.length for prefix in prefixes)
    unread = [tokens[prefix.length :] for tokens, prefix in zip(prompts, prefixes, strict=True)]
    S = max(len(tokens) for tokens in unread)
    ids_BS = torch.zeros(len(prompts), S, dtype=torch.long)
    places_BS = torch.zeros(len(prompts), S, dtype=torch.long)
    valid_BK = torch.zeros(len(prompts), P + S, dtype=torch.bool)
    for row, (tokens, prefix) in enumerate(zip(unread, prefixes, strict=True)):
        ids_BS[row, S - len(tokens) :] = torch.tensor(tokens)
        places_BS[row, S - len(tokens) :] = torch.arange(prefix.length, prefix.length + len(tokens))
        valid_BK[row, P - prefix.length : P] = True
        valid_BK[row, P + S - len(tokens) :] = True
    causal_SK = torch.ones(S, P + S, dtype=torch.bool).tril(P)
    # padding looks at itself: a query that sees nothing would be NaN, and NaN spreads through masked values
    itself_SK = torch.eye(P + S, dtype=torch.bool)[P:]
    mask_BSK = (causal_SK & valid_BK[:, None, :]) | itself_SK
    cache = DynamicCache(_stack(prefixes, P)) if P else DynamicCache()
    logits_BV = _forward(model, ids_BS, places_BS, mask_BSK[:, None], cache)
    return cache, valid_BK.to(model.device), logits_BV


def _forward(model: Any, ids: torch.Tensor, places: torch.Tensor, mask: torch.Tensor, cache: Any) -> torch.Tensor:
    device = model.device
    out = model(
        input_ids=ids.to(device),
        position_ids=places.to(device),
        attention_mask=mask.to(device),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    logits: torch.Tensor = out.logits[:, -1].float()
    return logits


def _stack(prefixes: Sequence[Prefix], width: int) -> Layers:
    """The rows' prefixes side by side, right-aligned in `width` columns."""
    first = prefixes[0]
    if all(
        prefix.length == width and prefix.layers[0][0].data_ptr() == first.layers[0][0].data_ptr()
        for prefix in prefixes
    ):
        return tuple(
            (keys.expand(len(prefixes), -1, -1, -1), values.expand(len(prefixes), -1, -1, -1))
            for keys, values in first.layers
        )
    longest = next(prefix for prefix in prefixes if prefix.length == width)
    stacked: list[tuple[torch.Tensor, torch.Tensor]] = []
    for layer, example in enumerate(longest.layers):
        both = tuple(tensor.new_zeros(len(prefixes), *tensor.shape[1:]) for tensor in example)
        for row, prefix in enumerate(prefixes):
            if prefix.length:
                for side, tensor in zip(both, prefix.layers[layer], strict=True):
                    side[row, :, width - prefix.length :] = tensor[0]
        stacked.append((both[0], both[1]))
    return tuple(stacked)
