"""The model behind the server: one worker thread, requests batched as they wait, several adapters on one base.

Prompts are batched with others of the same adapter. Everything that touches the model runs on the worker thread, so
adapters come and go between batches and no lock is needed.
"""

import json
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracemill.errors import ConfigError
from tracemill.train import prompts
from tracemill.train.serving.decode import Generation, Sampling, generate
from tracemill.train.serving.prefix import PrefixStore, Tokens


class UnknownModelError(ConfigError):
    """A request names a model or adapter that is not being served."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    adapter: str | None
    tokens: Tokens
    sampling: Sampling
    future: "Future[Generation]"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """Work on the model itself: loading or unloading an adapter."""

    run: Callable[[], Any]
    future: "Future[Any]"


class Engine:
    """Answers prompts with one base model and its adapters. Close it to end its thread."""

    def __init__(
        self,
        folder: Path,
        *,
        name: str,
        dtype: str = "float32",
        threads: int | None = None,
        max_batch: int = 16,
        max_batch_tokens: int = 16_384,
        gather_ns: int = 15_000_000,
        prefix_tokens: int = 16_384,
    ) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        if threads is not None:
            torch.set_num_threads(threads)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.name = name
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        if not self.tokenizer.chat_template:
            raise ConfigError(f"the model in {folder} has no chat template, which chat completions need")
        kind = torch.bfloat16 if device == "cuda" or dtype == "bfloat16" else torch.float32
        self._base = AutoModelForCausalLM.from_pretrained(folder, dtype=kind).to(device).eval()
        self._model = self._base
        self._ends = _ends(self._base, self.tokenizer)
        self.context = int(getattr(self._base.config, "max_position_embeddings", 2**31))
        self._adapters: dict[str, Path] = {}
        self._store = PrefixStore(prefix_tokens)
        self._max_batch = max_batch
        self._max_batch_tokens = max_batch_tokens
        self._gather_s = gather_ns / 1e9
        self._arrivals: queue.SimpleQueue[_Request | _Call | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    @property
    def adapters(self) -> dict[str, Path]:
        """Name to folder of the adapters being served."""
        return dict(self._adapters)

    def tokens(self, messages: Sequence[dict[str, Any]]) -> Tokens:
        """The prompt of a conversation, as the model's chat template writes it.

        Raises ConfigError where the template cannot write it.
        """
        try:
            return prompts.tokens(self.tokenizer, messages)
        except prompts.UnwritableError as error:
            raise ConfigError(f"the chat template of {self.name} cannot write these messages: {error}") from error

    def submit(self, model: str, tokens: Tokens, sampling: Sampling) -> "Future[Generation]":
        """Queues one prompt. Raises UnknownModelError, or ConfigError where the prompt is too long for the model."""
        adapter = self._adapter(model)
        if len(tokens) + sampling.max_tokens > self.context:
            raise ConfigError(
                f"this model's maximum context length is {self.context} tokens; the prompt has {len(tokens)} and "
                f"max_tokens asks for {sampling.max_tokens}"
            )
        future: Future[Generation] = Future()
        self._arrivals.put(_Request(adapter=adapter, tokens=tokens, sampling=sampling, future=future))
        return future

    def load_adapter(self, name: str, path: Path) -> "Future[None]":
        """Serves a LoRA folder under a name. The same folder again is no error; another under the same name is."""
        return self._call(lambda: self._load(name, path))

    def unload_adapter(self, name: str) -> "Future[None]":
        """Stops serving an adapter. The future raises UnknownModelError where there is none of that name."""
        return self._call(lambda: self._unload(name))

    def close(self) -> None:
        """Ends the worker thread after what is queued."""
        self._arrivals.put(None)
        self._thread.join()

    def _call(self, run: Callable[[], Any]) -> "Future[Any]":
        future: Future[Any] = Future()
        self._arrivals.put(_Call(run=run, future=future))
        return future

    def _adapter(self, model: str) -> str | None:
        if model == self.name:
            return None
        if model not in self._adapters:
            served = ", ".join([self.name, *self._adapters])
            raise UnknownModelError(f"the model {model!r} does not exist; served here: {served}")
        return model

    def _work(self) -> None:
        waiting: list[_Request] = []
        while True:
            arrivals = self._gather(block=not waiting)
            for arrival in arrivals:
                if isinstance(arrival, _Request):
                    waiting.append(arrival)
                    continue
                # a call is a fence: what was asked before it is answered before it
                while waiting:
                    waiting = self._answer(waiting)
                if arrival is None:
                    return
                _settle(arrival.future, arrival.run)
            if waiting:
                waiting = self._answer(waiting)

    def _gather(self, *, block: bool) -> list[_Request | _Call | None]:
        """What has arrived. Clients that were answered together ask again within milliseconds of each other."""
        arrivals: list[_Request | _Call | None] = []
        if block:
            arrivals.append(self._arrivals.get())
        while len(arrivals) < self._max_batch:
            try:
                arrivals.append(self._arrivals.get(timeout=self._gather_s))
            except queue.Empty:
                break
        return arrivals

    def _answer(self, waiting: list[_Request]) -> list[_Request]:
        """Answers a batch around the request that waits longest; the requests that still wait."""
        head = waiting[0]
        alike = [request for request in waiting if request.adapter == head.adapter]
        # prompts of like length waste least padding
        alike.sort(key=lambda request: abs(len(request.tokens) - len(head.tokens)))
        batch: list[_Request] = []
        longest = 0
        for request in alike[: self._max_batch]:
            longest = max(longest, len(request.tokens))
            if batch and longest * (len(batch) + 1) > self._max_batch_tokens:
                break
            batch.append(request)
        chosen = {id(request) for request in batch}
        # whose client has gone is not answered; a future that runs can no longer be cancelled under our hands
        batch = [request for request in batch if request.future.set_running_or_notify_cancel()]
        if not batch:
            return [request for request in waiting if id(request) not in chosen]
        try:
            self._switch(head.adapter)
            generations = generate(
                self._model,
                self.tokenizer,
                [request.tokens for request in batch],
                [request.sampling for request in batch],
                ends=self._ends,
                store=self._store,
                adapter=head.adapter,
            )
        except Exception as error:  # noqa: BLE001 - whatever torch raises belongs to these requests, not to the server
            for request in batch:
                request.future.set_exception(error)
        else:
            for request, generation in zip(batch, generations, strict=True):
                request.future.set_result(generation)
        return [request for request in waiting if id(request) not in chosen]

    def _switch(self, adapter: str | None) -> None:
        if adapter is not None and adapter not in self._adapters:
            raise UnknownModelError(f"the adapter {adapter!r} was unloaded")
        if self._model is self._base:
            return
        if adapter is None:
            self._model.base_model.disable_adapter_layers()
        else:
            self._model.base_model.enable_adapter_layers()
            self._model.set_adapter(adapter, inference_mode=True)

    def _load(self, name: str, path: Path) -> None:
        from peft import LoraConfig, PeftModel, set_peft_model_state_dict
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        if name == self.name:
            raise ConfigError(f"{name!r} is the base model's name; give the adapter another")
        if name in self._adapters:
            if self._adapters[name] == path:
                return
            raise ConfigError(f"the adapter {name!r} is already loaded from {self._adapters[name]}; unload it first")
        try:
            config = LoraConfig.from_pretrained(str(path))
            weights = load_file(path / "adapter_model.safetensors")
        except (OSError, ValueError, TypeError, json.JSONDecodeError, SafetensorError) as error:
            raise ConfigError(f"{path} holds no LoRA adapter that can be read: {error}") from error
        config.inference_mode = True
        wrapped = self._model is not self._base
        try:
            if wrapped:
                self._model.add_adapter(name, config)
            else:
                self._model = PeftModel(self._base, config, adapter_name=name)
            result = set_peft_model_state_dict(self._model, weights, adapter_name=name)
            if result.unexpected_keys:
                raise ValueError(f"weights that the model has no place for, such as {result.unexpected_keys[0]}")
        except (ValueError, RuntimeError, KeyError) as error:
            if wrapped and name in self._model.peft_config:
                self._model.delete_adapter(name)
            elif self._model is not self._base:
                self._model = self._base = self._model.unload()
            raise ConfigError(f"the adapter in {path} does not fit the model {self.name}: {error}") from error
        self._model.eval()
        self._adapters[name] = path

    def _unload(self, name: str) -> None:
        if name not in self._adapters:
            raise UnknownModelError(f"the adapter {name!r} cannot be found")
        if len(self._adapters) == 1:
            self._model = self._base = self._model.unload()
        else:
            self._model.delete_adapter(name)
        del self._adapters[name]
        self._store.forget(name)


def _ends(model: Any, tokenizer: Any) -> frozenset[int]:
    """Tokens that end an answer, of the generation config and of the tokenizer."""
    ends: set[int] = set()
    for source in (model.generation_config.eos_token_id, tokenizer.eos_token_id):
        if source is not None:
            ends.update([source] if isinstance(source, int) else source)
    return frozenset(ends)


def _settle(future: "Future[Any]", run: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(run())
    except Exception as error:  # noqa: BLE001 - handed to who asked
        future.set_exception(error)
