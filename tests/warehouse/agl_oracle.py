"""Agent Lightning 0.3.0's adapters in a process of their own: spans in, triplets or messages out, one JSON line each.

`import agentlightning` pulls in AgentOps, LiteLLM's proxy, web servers and more, which adapters never use. So this
process puts empty packages in the place of the three parents whose `__init__` imports all that, and of the two modules
that give spans away; adapters, types and reward parsing are the package's own files, unchanged. Run as a script.
"""

import importlib
import importlib.metadata
import importlib.util
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

VERSION = "0.3.0"


class Oracle:
    """A running oracle. Use as a context manager."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
        )  # fmt: skip

    def __enter__(self) -> "Oracle":
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def ask(self, adapter: str, spans: Sequence[Mapping[str, Any]], **options: Any) -> tuple[Any, float]:
        """What `adapter` (tracer, proxy, messages, final) makes of `spans`, and the CPU seconds that it took.

        Raises ValueError with the oracle's error.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"adapter": adapter, "spans": list(spans), "options": options}) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if "error" in answer:
            raise ValueError(answer["error"])
        return answer["found"], answer["seconds"]


def missing() -> str | None:
    """Why the oracle cannot be asked here; None where it can."""
    try:
        found = importlib.metadata.version("agentlightning")
    except importlib.metadata.PackageNotFoundError:
        return "agentlightning is not installed (pip install --no-deps -r requirements/oracle.txt)"
    return None if found == VERSION else f"agentlightning {found} is installed, the oracle is {VERSION}"


def _stand_in(name: str, **members: Any) -> ModuleType:
    module = ModuleType(name)
    for member, value in members.items():
        setattr(module, member, value)
    sys.modules[name] = module
    return module


def _serve() -> None:
    root = Path(importlib.metadata.distribution("agentlightning").locate_file("agentlightning"))
    for name in ("", ".emitter", ".utils"):
        package = _stand_in(f"agentlightning{name}")
        package.__path__ = [str(root / name.removeprefix("."))]
    unused = type("Unused", (), {})
    if importlib.util.find_spec("agentops") is None:
        for name in ("agentops", "agentops.sdk"):
            _stand_in(name).__path__ = []
        _stand_in("agentops.sdk.exporters", OTLPSpanExporter=unused)
    _stand_in("agentlightning.tracer").__path__ = []
    _stand_in("agentlightning.tracer.base", get_active_tracer=None)
    _stand_in("agentlightning.tracer.dummy", DummyTracer=unused)
    _stand_in("agentlightning.utils.otlp", LightningStoreOTLPExporter=unused)
    logging.disable(logging.CRITICAL)

    adapter = importlib.import_module("agentlightning.adapter")
    policy = importlib.import_module("agentlightning.adapter.triplet").RewardMatchPolicy
    final = importlib.import_module("agentlightning.emitter.reward").find_final_reward
    span = importlib.import_module("agentlightning.types").Span

    for line in sys.stdin:
        asked = json.loads(line)
        spans = [span.model_validate(given) for given in asked["spans"]]
        options = asked["options"]
        if "reward_match" in options:
            options["reward_match"] = policy(options["reward_match"])
        started = time.process_time()
        try:
            if asked["adapter"] == "final":
                found: Any = final(spans)
            elif asked["adapter"] == "messages":
                found = adapter.TraceToMessages().adapt(spans)
            elif asked["adapter"] == "proxy":
                found = [triplet.model_dump() for triplet in adapter.LlmProxyTraceToTriplet().adapt(spans)]
            else:
                found = [triplet.model_dump() for triplet in adapter.TracerTraceToTriplet(**options).adapt(spans)]
            answer = {"found": found, "seconds": time.process_time() - started}
        except Exception as error:  # noqa: BLE001 whatever an adapter raises is its answer
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer, default=list), flush=True)


if __name__ == "__main__":
    _serve()
