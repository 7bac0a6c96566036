"""Sharing the beginning of a batch changes the time a step takes and nothing else."""

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")


def batch(rows: list[tuple[list[int], list[int]]]) -> dict[str, Any]:
    """Right-padded rows of (prompt, completion)."""
    longest = max(len(prompt) + len(completion) for prompt, completion in rows)
    ids, labels, mask = [], [], []
    for prompt, completion in rows:
        pad = longest - len(prompt) - len(completion)
        ids.append(prompt + completion + [0] * pad)
        labels.append([-100] * len(prompt) + completion + [-100] * pad)
        mask.append([1] * (longest - pad) + [0] * pad)
    return {"input_ids": torch.tensor(ids), "labels": torch.tensor(labels), "attention_mask": torch.tensor(mask)}


SHARED = list(range(20, 60))
ROWS = [([*SHARED, 5, 6, 7], [8, 9]), ([*SHARED, 11], [12]), ([*SHARED, 5, 13, 14, 15], [16, 17, 18])]


def test_loss_and_gradient_are_those_of_the_ordinary_path(tiny: Path) -> None:
    from tracemill.train import adapters
    from tracemill.train.prefix import completion_loss

    inputs = batch(ROWS)
    found = []
    for shared in (False, True):
        model = adapters.attach(tiny, init_adapter=None, rank=4, alpha=8, top_layers=2, seed=0)
        with torch.no_grad():
            for name, weights in model.named_parameters():
                if "lora_B" in name:
                    weights.add_(torch.linspace(-0.05, 0.05, weights.numel()).view_as(weights))
        loss = completion_loss(model, inputs) if shared else model(**inputs).loss
        assert loss is not None
        loss.backward()
        found.append((loss.item(), {n: p.grad for n, p in model.named_parameters() if p.requires_grad}))
    (plain, gradient), (quick, quick_gradient) = found
    assert quick == pytest.approx(plain, rel=1e-5)
    assert any(float(grad.abs().max()) > 0 for grad in gradient.values())
    for name, grad in gradient.items():
        torch.testing.assert_close(quick_gradient[name], grad, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("rows", "length"),
    [
        (ROWS, 40),
        ([(SHARED, [8]), (SHARED, [9])], 39),  # the last prompt token predicts the first taught one
        ([(SHARED, [8, 9]), (SHARED, [8, 10])], 39),
        ([([1, 2], [3]), ([4, 5], [6])], 0),
        ([(SHARED[:3], [3]), (SHARED, [6])], 2),
    ],
)
def test_what_is_shared_ends_before_anything_is_taught(rows: Any, length: int) -> None:
    from tracemill.train.prefix import shared_length

    assert shared_length(**batch(rows)) == length


def test_rows_that_share_little_take_the_ordinary_path(tiny: Path) -> None:
    from tracemill.train.prefix import completion_loss

    assert completion_loss(None, batch([([1, 2], [3]), ([4, 5], [6])])) is None
    assert completion_loss(None, batch(ROWS[:1])) is None


@pytest.mark.parametrize("rows", [ROWS, [(SHARED, [8]), (SHARED, [9, 10])]])
def test_log_probabilities_of_drawn_completions_are_those_of_every_row_alone(tiny: Path, rows: Any) -> None:
    from transformers import AutoModelForCausalLM

    from tracemill.train.prefix import completion_logps

    model = AutoModelForCausalLM.from_pretrained(tiny).eval()
    widest, longest = max(len(p) for p, _ in rows), max(len(c) for _, c in rows)
    ids = torch.tensor([[0] * (widest - len(p)) + p + c + [0] * (longest - len(c)) for p, c in rows])
    mask = torch.tensor([[0] * (widest - len(p)) + [1] * (len(p) + len(c)) + [0] * (longest - len(c)) for p, c in rows])
    with torch.no_grad():
        found = completion_logps(model, ids, mask, longest, temperature=0.7)
        assert found is not None
        for at, (prompt, completion) in enumerate(rows):
            logits = model(input_ids=torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1]
            alone = (logits / 0.7).log_softmax(-1)
            said = alone.gather(-1, torch.tensor(completion)[:, None]).squeeze(-1)
            torch.testing.assert_close(found[0][at, : len(completion)], said, rtol=1e-4, atol=1e-4)
            entropy = -(alone.exp() * alone).sum(-1)
            torch.testing.assert_close(found[1][at, : len(completion)], entropy, rtol=1e-4, atol=1e-4)
