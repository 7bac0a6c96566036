"""Does the judge keep its endpoint busy? Calls per second against a local server that only waits, beside the ideal.

    python bench/judge.py [--episodes 1500] [--concurrency 32] [--rounds 3] [--quick]

A server in a process of its own (one core, asyncio) answers every call after a drawn wait around 50, 100 or 200 ms.
The ideal is `concurrency` calls per mean wait: nothing but waiting. Contenders ask the same questions in turn, each
round anew: `chat` is HttpChatModel alone with all requests ready at once, `judge` the reward model that reads episodes,
writes prompts and looks up quotes, `night` the judge as a night runs it, which also keeps every answer in a lake and
writes the scores; `again` is another judge with the same questions, answered from the lake. CPU is that of the asking
process.
Prints one JSON object as its last line.
"""

import argparse
import json
import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness import serving

from tracemill.app import settings
from tracemill.optimize.endpoint import HttpChatModel
from tracemill.pipelines import ingesting, judging
from tracemill.pipelines.asking import with_somebody_to_ask
from tracemill.pipelines.night import Night
from tracemill.records import ChatRequest, Completion
from tracemill.rewards.judge import Judge
from tracemill.warehouse import Lake

NOW = 1_790_000_000_000_000_000
WAITS_MS = (50, 100, 200)
FORMAT = '[[formats]]\nname = "desk"\ncolumns = { trace_id = "run", input = "q", output = "a", agent_name = "agent" }\n'
SERVER = """
import asyncio, json, re, sys
import uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

wait_s = 0.1
waited = [0.0, 0]

async def chat(request):
    body = json.loads(await request.body())
    text = body["messages"][-1]["content"]
    spread = (hash(text) % 1000) / 1000
    wait = wait_s * (0.5 + spread)
    waited[0] += wait
    waited[1] += 1
    await asyncio.sleep(wait)
    quote = re.search(r'"said":"([^"]{4,60})', text)
    verdicts = [{"criterion": name, "quote": quote.group(1) if quote else "", "met": "well" in text}
                for name in re.findall(r"^- (\\w+):", text, re.M)]
    answer = {"choices": [{"message": {"role": "assistant", "content": json.dumps({"verdicts": verdicts})},
                           "finish_reason": "stop"}],
              "usage": {"prompt_tokens": len(text) // 4, "completion_tokens": 120}}
    return Response(json.dumps(answer), media_type="application/json")

async def control(request):
    global wait_s
    told = [waited[0] / waited[1] if waited[1] else 0.0, waited[1]]
    waited[:] = [0.0, 0]
    wait_s = float(request.query_params["wait_s"])
    return Response(json.dumps(told))

app = Starlette(routes=[Route("/v1/chat/completions", chat, methods=["POST"]), Route("/control", control)])
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error", backlog=512)
"""


def waiting(url: str, wait_s: float) -> tuple[float, int]:
    """Sets the wait; mean wait and number of the calls since it was last set."""
    import httpx

    mean, calls = httpx.get(f"{url}/control", params={"wait_s": wait_s}, trust_env=False).json()
    return float(mean), int(calls)


def logged(folder: Path, episodes: int) -> Night:
    """Support episodes of four calls, a few hundred words each."""
    draw = random.Random(0)
    words = ["".join(draw.choices("abdeiklmnorstu", k=draw.randint(3, 9))) for _ in range(900)]

    def text(n: int) -> str:
        return " ".join(draw.choices(words, k=n))

    lines = [
        {"run": f"run{run}", "agent": "desk", "q": f"Case {run}: {text(40)}",
         "a": f"{text(60)} went {'well' if run % 3 else 'badly'} {run} {step}"}
        for run in range(episodes)
        for step in range(4)
    ]  # fmt: skip
    (folder / "tracemill.toml").write_text(FORMAT)
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = settings.load(folder)
    night = Night(night_id="bench", config=config, lake=Lake.create(config.lake_path), clock=lambda: NOW)
    ingesting.take_in(night, [folder / "log.jsonl"])
    return night


class Noting:
    """A chat model that keeps the requests that went through it."""

    def __init__(self, chat: HttpChatModel) -> None:
        self.chat, self.requests = chat, []

    def complete(self, requests: list[ChatRequest]) -> list[Completion]:
        self.requests.extend(requests)
        return self.chat.complete(requests)


def measured(url: str, wait_s: float, concurrency: int, ask: Callable[[], Any]) -> dict[str, float]:
    waiting(url, wait_s)
    began, cpu = time.perf_counter(), time.process_time()
    ask()
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    mean, calls = waiting(url, wait_s)
    if not calls:
        return {"calls": 0, "seconds": took, "cpu_s": cpu}
    ideal = concurrency / mean
    return {
        "calls": calls,
        "seconds": took,
        "calls_s": calls / took,
        "share": calls / took / ideal,
        "cpu_ms_call": 1000 * cpu / calls,
    }


def contenders(
    night: Night, url: str, concurrency: int, requests: list[ChatRequest], seed: int
) -> dict[str, Callable[[], Any]]:
    model = Judge(
        base_url=f"{url}/v1", model="m", concurrency=concurrency, max_episodes=10**6, budget_tokens=0, seed=seed
    )

    def alone() -> None:
        HttpChatModel(url, concurrency=concurrency).complete(requests)

    def judge() -> None:
        with night.lake.reader() as con:
            model.asking(HttpChatModel(url, concurrency=concurrency), "m").score(con, now_ns=NOW)

    def at_night(name: str) -> Callable[[], None]:
        def run() -> None:
            from contextlib import ExitStack

            with ExitStack() as stack:
                judging._judge(night, with_somebody_to_ask(night, replace(model, name=name), stack), {name: 0})

        return run

    return {"chat": alone, "judge": judge, "night": at_night(f"judge{seed}"), "again": at_night(f"again{seed}")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--episodes", type=int, default=1500)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    episodes, rounds = (128, 1) if given.quick else (given.episodes, given.rounds)
    figures: dict[str, dict[str, list[dict[str, float]]]] = {}
    with tempfile.TemporaryDirectory() as folder, serving(SERVER) as url:
        night = logged(Path(folder), episodes)
        noting = Noting(HttpChatModel(url, concurrency=given.concurrency))
        waiting(url, 0.001)
        with night.lake.reader() as con:
            Judge(model="m", max_episodes=10**6).asking(noting, "m").score(con, now_ns=NOW)  # and dspy is loaded
        for turn in range(rounds):
            for wait in WAITS_MS:
                seed = 1 + turn * len(WAITS_MS) + WAITS_MS.index(wait)
                for name, ask in contenders(night, url, given.concurrency, noting.requests, seed).items():
                    found = measured(url, wait / 1000, given.concurrency, ask)
                    figures.setdefault(f"{wait} ms", {}).setdefault(name, []).append(found)
                    print(f"{wait} ms {name}: {json.dumps({k: round(v, 3) for k, v in found.items()})}", flush=True)
        night.lake.close()
    result = {
        "bench": "judge",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "episodes": episodes,
        "concurrency": given.concurrency,
        "medians": {
            wait: {
                name: {key: round(statistics.median(one[key] for one in runs), 4) for key in runs[0]}
                for name, runs in by_name.items()
            }
            for wait, by_name in figures.items()
        },
        "spread_of_share": {
            wait: {
                name: [round(min(one["share"] for one in runs), 3), round(max(one["share"] for one in runs), 3)]
                for name, runs in by_name.items()
                if "share" in runs[0]
            }
            for wait, by_name in figures.items()
        },
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
