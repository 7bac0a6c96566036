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
    head = model(input_ids=ids[:1, :shared], use_cache=True, logits_to_keep=1)
    past = head.past_key_values
    past.batch_repeat_interleave(len(ids))
    tail = model(input_ids=ids[:, shared:], attention_mask=mask, past_key_values=past, use_cache=True)
    predicted = tail.logits[:, :-1].float().flatten(0, 1)
    total = cross_entropy(predicted, labels[:, shared + 1 :].flatten(), ignore_index=-100, reduction="sum")
    return total / (items if items is not None else (labels[:, 1:] != -100).sum())
