"""Serving without HTTP: batching, prefixes and sampling change the speed of an answer, never the answer."""

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from tracemill.errors import ConfigError
from tracemill.train.serving.decode import Sampling, generate, nucleus
from tracemill.train.serving.engine import Engine, UnknownModelError
from tracemill.train.serving.prefix import LEAST_SHARED, PrefixStore, common, families

SYSTEM = "You route tickets to one of the queues billing, shipping, returns or account. Answer with the queue only."
ASKED = [
    "My parcel has not arrived.",
    "I was charged twice for the same order and want my money back, and I want it back soon, do you hear me?",
    "The shoes are too small",
    "log in",
    "My parcel has not arrived, I said.",
]


@pytest.fixture(scope="module")
def engine(tiny: Path) -> Iterator[Engine]:
    engine = Engine(tiny, name="tiny", threads=1, prefix_tokens=2000)
    yield engine
    engine.close()


def _prompts(engine: Engine, *, system: str = SYSTEM) -> list[tuple[int, ...]]:
    return [engine.tokens([{"role": "system", "content": system}, {"role": "user", "content": text}]) for text in ASKED]


def _greedy(engine: Engine, tokens: tuple[int, ...], n: int) -> list[int]:
    """The reference: one prompt, no cache, the whole sequence read again for every token."""
    import torch

    ids = list(tokens)
    for _ in range(n):
        with torch.no_grad():
            token = int(engine._base(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax())
        ids.append(token)
        if token == engine.tokenizer.eos_token_id:
            break
    return ids[len(tokens) :]


def _run(engine: Engine, prompts: list[tuple[int, ...]], store: PrefixStore, **knobs: object) -> list:
    return generate(
        engine._base,
        engine.tokenizer,
        prompts,
        [Sampling(**{"max_tokens": 8, "temperature": 0.0, **knobs}) for _ in prompts],
        ends=frozenset([engine.tokenizer.eos_token_id]),
        store=store,
        adapter=None,
    )


def test_a_batch_answers_as_each_prompt_alone_without_any_cache(engine: Engine) -> None:
    prompts = _prompts(engine)
    expected = [_greedy(engine, tokens, 8) for tokens in prompts]
    assert len({tuple(answer) for answer in expected}) > 1
    store = PrefixStore(5000)
    for _ in range(3):  # the first fills the store, the others read from it
        assert [list(generation.token_ids) for generation in _run(engine, prompts, store)] == expected


def test_prompts_with_prefixes_of_different_length_share_a_batch(engine: Engine) -> None:
    store = PrefixStore(5000)
    first = _prompts(engine)
    _run(engine, first, store)
    mixed = [first[0], _prompts(engine, system="Say yes")[1], first[2], _prompts(engine, system=SYSTEM * 2)[3]]
    generations = _run(engine, mixed, store)
    assert [list(generation.token_ids) for generation in generations] == [_greedy(engine, t, 8) for t in mixed]
    assert generations[0].cached_tokens > generations[1].cached_tokens


def test_the_common_part_is_computed_once(engine: Engine) -> None:
    prompts = _prompts(engine)
    store = PrefixStore(5000)
    _run(engine, prompts, store)
    again = _run(engine, prompts, store)
    shared = min(common(prompts[0], other) for other in prompts[1:])
    assert all(generation.cached_tokens >= shared - 1 for generation in again)
    alone = _run(engine, [prompts[1]], store)[0]
    assert alone.cached_tokens >= shared


def test_a_prompt_without_relatives_serves_the_next_one(engine: Engine) -> None:
    prompts = _prompts(engine)
    store = PrefixStore(5000)
    assert _run(engine, prompts[:1], store)[0].cached_tokens == 0
    assert _run(engine, prompts[1:2], store)[0].cached_tokens >= LEAST_SHARED


def test_logprobs_are_those_of_a_direct_forward_under_the_temperature(engine: Engine) -> None:
    import torch

    prompts = _prompts(engine)
    for generation, tokens in zip(
        _run(engine, prompts, PrefixStore(5000), temperature=1.7, seed=3), prompts, strict=True
    ):
        with torch.no_grad():
            logits = engine._base(torch.tensor([[*tokens, *generation.token_ids]]), use_cache=False).logits[0]
        rows = torch.log_softmax(logits[len(tokens) - 1 : -1] / 1.7, -1)
        expected = rows.gather(1, torch.tensor(generation.token_ids)[:, None])[:, 0]
        assert generation.logprobs == pytest.approx(expected.tolist(), abs=1e-3)


def test_a_seed_gives_the_same_draws_alone_and_in_a_batch(engine: Engine) -> None:
    prompts = _prompts(engine)
    batch = _run(engine, prompts, PrefixStore(5000), temperature=1.5, seed=11)
    alone = [_run(engine, [tokens], PrefixStore(0), temperature=1.5, seed=11)[0] for tokens in prompts]
    assert [g.token_ids for g in batch] == [g.token_ids for g in alone]
    other = _run(engine, prompts, PrefixStore(5000), temperature=1.5, seed=12)
    assert [g.token_ids for g in batch] != [g.token_ids for g in other]


def test_the_nucleus_keeps_the_likeliest_and_is_a_distribution() -> None:
    import torch

    kept = nucleus(torch.tensor([0.5, 0.3, 0.15, 0.05]).log(), 0.75)
    assert kept.exp().tolist() == pytest.approx([0.625, 0.375, 0.0, 0.0])


def test_a_stop_string_ends_the_answer_before_it(engine: Engine) -> None:
    tokens = _prompts(engine)[0]
    full = _run(engine, [tokens], PrefixStore(0))[0]
    stop = full.text[1:3]
    cut = _run(engine, [tokens], PrefixStore(0), stop=(stop,))[0]
    assert cut.text == full.text[: full.text.index(stop)]
    assert cut.finish_reason == "stop"
    assert len(cut.token_ids) <= len(full.token_ids)


def test_families_are_prompts_of_one_site() -> None:
    one = [(*range(40), 100 + i, 200) for i in range(3)]
    other = [(*range(500, 560), i) for i in range(2)]
    found = {tuple(sorted(rows)): shared for rows, shared in families([one[0], other[0], one[1], other[1], one[2]])}
    assert found == {(0, 2, 4): 40, (1, 3): 60}


def test_the_store_lets_the_prefixes_unused_longest_go() -> None:
    import torch

    layers = ((torch.zeros(1, 1, 3, 2), torch.zeros(1, 1, 3, 2)),)
    store = PrefixStore(6)
    store.keep(None, (1, 2, 3), layers)
    store.keep(None, (4, 5, 6), layers)
    assert store.longest(None, (1, 2, 3, 9)).length == 3
    store.keep(None, (7, 8, 9), layers)
    assert store.longest(None, (4, 5, 6, 9)).length == 0
    assert store.longest(None, (1, 2, 3, 9)).length == 3
    assert store.longest("adapter", (1, 2, 3, 9)).length == 0


def test_a_prompt_beyond_the_context_is_refused_with_the_numbers(engine: Engine) -> None:
    with pytest.raises(ConfigError, match="maximum context length is 1024 tokens; the prompt has 1100"):
        engine.submit("tiny", (5,) * 1100, Sampling())


def test_an_unknown_model_is_refused_with_those_that_are_served(engine: Engine) -> None:
    with pytest.raises(UnknownModelError, match="'huge' does not exist; served here: tiny"):
        engine.submit("huge", (5, 6), Sampling())


def test_many_waiting_requests_of_different_lengths_are_all_answered(engine: Engine) -> None:
    prompts = _prompts(engine) * 8
    futures = [engine.submit("tiny", tokens, Sampling(temperature=0, max_tokens=4)) for tokens in prompts]
    answers = [future.result(timeout=60) for future in futures]
    expected = {tokens: _greedy(engine, tokens, 4) for tokens in set(prompts)}
    assert [list(answer.token_ids) for answer in answers] == [expected[tokens] for tokens in prompts]
    assert all(math.isfinite(logprob) for answer in answers for logprob in answer.logprobs)


def test_a_request_that_was_given_up_does_not_stop_the_engine(engine: Engine) -> None:
    tokens = _prompts(engine)[0]
    given_up = [engine.submit("tiny", tokens, Sampling(temperature=0, max_tokens=4)) for _ in range(3)]
    cancelled = [future.cancel() for future in given_up]
    answer = engine.submit("tiny", tokens, Sampling(temperature=0, max_tokens=4)).result(timeout=60)
    assert any(cancelled)
    assert list(answer.token_ids) == _greedy(engine, tokens, 4)
