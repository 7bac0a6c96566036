"""Training rows that begin alike: the shared beginning is computed once per batch instead of once per row.

The calls of one site share their system prompt and demonstrations, easily nine tenths of every prompt. With causal
attention the shared tokens' keys and values are the same in every row, so one row of them serves the whole batch, and
gradients flow back through it from all rows: the same loss and the same gradient at a fraction of the work.
"""

from typing import Any

WORTH = 16
"""Shared tokens below which the ordinary path is as fast."""


def shared_length(input_ids: Any, labels: Any, attention_mask: Any) -> int:
    """Leading tokens that all rows share and that nothing is learned from. Rows are padded on the right.

    One prompt token of every row stays behind: the first completion token is predicted from it.
    """
    same = (input_ids == input_ids[:1]).all(dim=0) & (attention_mask == 1).all(dim=0)
    taught = (labels != -100).any(dim=0)
    until = (~same).nonzero()
    learned = taught.nonzero()
    length = int(until[0]) if len(until) else input_ids.shape[1]
    return max(0, min(length, int(learned[0]) - 1 if len(learned) else 0))


def completion_loss(model: Any, inputs: dict[str, Any], *, items: Any = None) -> Any | None:
    """Mean next-token loss over the taught tokens (their sum over `items`, where given).

    None where the rows share too little to be worth it, or where there is only one.
    """
    from torch.nn.functional import cross_entropy

    ids, labels, mask = inputs["input_ids"], inputs["labels"], inputs["attention_mask"]
    shared = shared_length(ids, labels, mask)
    if shared < WORTH or len(ids) < 2:
        return None
    logits = _tail_logits(model, ids[:1, :shared], ids[:, shared:], mask)
    predicted = logits[:, :-1].float().flatten(0, 1)
    total = cross_entropy(predicted, labels[:, shared + 1 :].flatten(), ignore_index=-100, reduction="sum")
    return total / (items if items is not None else (labels[:, 1:] != -100).sum())


def completion_logps(
    model: Any, input_ids: Any, attention_mask: Any, n_completion: int, *, temperature: float
) -> tuple[Any, Any] | None:
    """Log-probabilities of the last `n_completion` columns and the entropies there, (rows, n_completion) each.

    Rows are prompts padded on the left with completions padded on the right, as TRL's GRPOTrainer lays them out; what
    stands at padding is arbitrary. None where the rows share too little to be worth it.
    """
    import torch

    rows = [ids[mask.bool()] for ids, mask in zip(input_ids, attention_mask, strict=True)]
    prompts = attention_mask[:, :-n_completion].sum(dim=1)
    limit = int(prompts.min()) - 1
    if len(rows) < 2 or limit < WORTH:
        return None
    heads = torch.stack([row[:limit] for row in rows])
    different = (heads != heads[:1]).any(dim=0).nonzero()
    shared = int(different[0]) if len(different) else limit
    if shared < WORTH:
        return None
    tails = torch.nn.utils.rnn.pad_sequence([row[shared:] for row in rows], batch_first=True)
    known = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
    logits = _tail_logits(model, heads[:1, :shared], tails, known)
    # Completion token j of a row is predicted from the tail's place just before it.
    places = (prompts - shared - 1)[:, None] + torch.arange(n_completion, device=input_ids.device)[None]
    at = places.clamp(max=logits.shape[1] - 1)
    scores = (logits[torch.arange(len(rows))[:, None], at].float() / temperature).log_softmax(dim=-1)
    said = input_ids[:, -n_completion:]
    return scores.gather(-1, said[..., None]).squeeze(-1), -(scores.exp() * scores).sum(dim=-1)


def _tail_logits(model: Any, head: Any, tails: Any, mask: Any) -> Any:
    """Logits of `tails` (right-padded) after the shared `head` (one row); `mask` covers both."""
    past = model(input_ids=head, use_cache=True, logits_to_keep=1).past_key_values
    past.batch_repeat_interleave(len(tails))
    return model(input_ids=tails, attention_mask=mask, past_key_values=past, use_cache=True).logits
