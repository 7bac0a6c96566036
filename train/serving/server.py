"""The HTTP side: OpenAI's chat completions and model list, and vLLM's runtime LoRA calls.

Beyond OpenAI's answer, `return_token_ids` adds `prompt_token_ids` and `choices[0].token_ids` as vLLM does.
Log-probabilities are those of the distribution that tokens were drawn from (`decode.Generation.logprobs`), one for each
of `token_ids`, the end token included: what training from logs needs.
"""

import asyncio
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from tracemill.errors import ConfigError
from tracemill.train.serving.decode import Generation, Sampling
from tracemill.train.serving.engine import Engine, UnknownModelError
from tracemill.train.serving.prefix import Tokens

_MASK_63 = (1 << 63) - 1


def _flat(content: Any) -> Any:
    """Text of a message's content: None is empty, text parts are joined, anything else is refused by the type."""
    if content is None:
        return ""
    if isinstance(content, list) and all(isinstance(part, dict) and part.get("type") == "text" for part in content):
        return "".join(str(part.get("text", "")) for part in content)
    return content


class _Message(BaseModel):
    model_config = ConfigDict(extra="allow")
    role: str
    content: Annotated[str, BeforeValidator(_flat)] = ""


class _ChatBody(BaseModel):
    """The part of OpenAI's request that is served. What would change the answer and is not served is refused."""

    model: str
    messages: list[_Message] = Field(min_length=1)
    temperature: float = Field(default=1.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    seed: int | None = None
    stop: str | list[str] | None = None
    n: Literal[1] = 1
    stream: Literal[False] = False
    logprobs: bool = False
    top_logprobs: Literal[0] | None = None
    tools: Literal[None] = None
    return_token_ids: bool = False


class _LoadBody(BaseModel):
    lora_name: str = Field(min_length=1)
    lora_path: Path


class _UnloadBody(BaseModel):
    lora_name: str = Field(min_length=1)


def _error(status: int, message: str, kind: str, code: str | None = None) -> JSONResponse:
    return JSONResponse({"error": {"message": message, "type": kind, "param": None, "code": code}}, status_code=status)


def app(engine: Engine, *, clock: Callable[[], float]) -> Starlette:
    """The application. The caller owns the engine and closes it; `clock` gives seconds since the epoch."""

    async def chat(request: Request) -> Response:
        body = _ChatBody.model_validate_json(await request.body())
        tokens = engine.tokens([message.model_dump(exclude_none=True) for message in body.messages])
        generation = await asyncio.wrap_future(engine.submit(body.model, tokens, _sampling(body)))
        return JSONResponse(_completion(engine, body, tokens, generation, created=int(clock())))

    async def models(_: Request) -> Response:
        cards = [{"id": engine.name, "object": "model", "created": 0, "owned_by": "tracemill", "parent": None}]
        cards += [
            {"id": name, "object": "model", "created": 0, "owned_by": "tracemill", "parent": engine.name}
            for name in engine.adapters
        ]
        return JSONResponse({"object": "list", "data": cards})

    async def load(request: Request) -> Response:
        body = _LoadBody.model_validate_json(await request.body())
        await asyncio.wrap_future(engine.load_adapter(body.lora_name, body.lora_path))
        return PlainTextResponse(f"Success: LoRA adapter '{body.lora_name}' added successfully.")

    async def unload(request: Request) -> Response:
        body = _UnloadBody.model_validate_json(await request.body())
        await asyncio.wrap_future(engine.unload_adapter(body.lora_name))
        return PlainTextResponse(f"Success: LoRA adapter '{body.lora_name}' removed successfully.")

    async def health(_: Request) -> Response:
        return Response(status_code=200)

    def refuse(_: Request, error: Exception) -> Response:
        if isinstance(error, UnknownModelError):
            return _error(404, str(error), "NotFoundError", "model_not_found")
        if isinstance(error, ValidationError):
            return _error(400, _sentence(error), "BadRequestError")
        if isinstance(error, ConfigError):
            return _error(400, str(error), "BadRequestError")
        return _error(500, f"{type(error).__name__}: {error}", "InternalServerError")

    return Starlette(
        routes=[
            Route("/v1/chat/completions", chat, methods=["POST"]),
            Route("/v1/models", models),
            Route("/v1/load_lora_adapter", load, methods=["POST"]),
            Route("/v1/unload_lora_adapter", unload, methods=["POST"]),
            Route("/health", health),
        ],
        exception_handlers={ConfigError: refuse, ValidationError: refuse, Exception: refuse},
    )


def _sentence(error: ValidationError) -> str:
    """All that is wrong with a request body, in one line."""
    return "; ".join(f"{'.'.join(str(at) for at in e['loc']) or 'body'}: {e['msg']}" for e in error.errors())


def _sampling(body: _ChatBody) -> Sampling:
    stop = [body.stop] if isinstance(body.stop, str) else body.stop or []
    return Sampling(
        temperature=body.temperature,
        top_p=body.top_p,
        max_tokens=body.max_completion_tokens or body.max_tokens or 256,
        # without a seed every call draws its own
        seed=secrets.randbits(63) if body.seed is None else body.seed & _MASK_63,
        stop=tuple(text for text in stop if text),
    )


def _completion(
    engine: Engine, body: _ChatBody, prompt: Tokens, generation: Generation, *, created: int
) -> dict[str, Any]:
    """OpenAI's answer object."""
    choice: dict[str, Any] = {
        "index": 0,
        "message": {"role": "assistant", "content": generation.text},
        "finish_reason": generation.finish_reason,
        "logprobs": None,
    }
    if body.logprobs:
        choice["logprobs"] = {
            "content": [
                {"token": (text := engine.tokenizer.decode([token])), "logprob": logprob, "bytes": list(text.encode()),
                 "top_logprobs": []}
                for token, logprob in zip(generation.token_ids, generation.logprobs, strict=True)
            ]
        }  # fmt: skip
    answer: dict[str, Any] = {
        "id": f"chatcmpl-{secrets.token_hex(12)}",
        "object": "chat.completion",
        "created": created,
        "model": body.model,
        "choices": [choice],
        "usage": {
            "prompt_tokens": len(prompt),
            "completion_tokens": len(generation.token_ids),
            "total_tokens": len(prompt) + len(generation.token_ids),
            "prompt_tokens_details": {"cached_tokens": generation.cached_tokens},
        },
    }
    if body.return_token_ids:
        answer["prompt_token_ids"] = list(prompt)
        choice["token_ids"] = list(generation.token_ids)
    return answer
