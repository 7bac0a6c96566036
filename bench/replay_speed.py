"""What does a replay cost beside the model's own time, and how fast is it answered from the cache?

    python bench/replay_speed.py [--quick] [--wait-ms 50] [--concurrency 32] [--rounds 3]

A server in a process of its own waits 50 ms before each answer. Prompts with demonstrations are tried on logged cases
as in a night's search: Study, ladder level SingleStep, replay cache in a lake, ledger, HTTP, exact_match, and a row of
`evaluations` for each outcome. In turn, each round with prompts of its own:

    chat     HttpChatModel alone with the same requests, all ready: what nobody can beat here
    run      the whole way, nothing cached: `overhead` is its wall beyond the ideal, as a share of the ideal, where the
             ideal is calls / concurrency waits after each other; `cpu_ms` is the asking process, a call
    again    the same another night, all answered from the cache: `rows_s` by the clock, and by the CPU used

`large` tries each prompt on 960 cases, `small` on 48 (the default of `[optimize] max_tune_cases`: the ideal is two
waits for each prompt). `waited` is what the server's waits really took, for a busy machine wakes it late: `beyond`
is the same overhead against those.
Prints one JSON object as its last line.
"""

import argparse
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import ceil
from pathlib import Path

from harness import machine, serving

from tracemill.app import settings
from tracemill.optimize.artifact import baseline, demo_from_case, with_demonstrations
from tracemill.optimize.endpoint import HttpChatModel
from tracemill.optimize.ladder import SingleStep
from tracemill.optimize.replay import Budget, CachedModel, Ledger, request_for
from tracemill.optimize.search import tuned
from tracemill.pipelines import judging, replaying
from tracemill.pipelines.grading import Graders
from tracemill.pipelines.night import Night
from tracemill.records import Artifact, Case, Outcome, Site, Template
from tracemill.study import Study
from tracemill.warehouse import Lake

NOW = 1_790_000_000_000_000_000
CODES = ("billing", "cards", "delivery", "account")
SERVER = """
import asyncio, json, sys, time

wait_s, waited = float(sys.argv[1]), [0.0]

class Chat(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.data = transport, b""

    def data_received(self, data):
        self.data += data
        head, found, body = self.data.partition(b"\\r\\n\\r\\n")
        if found and len(body) >= length(head):
            self.data = b""
            if head.startswith(b"GET"):
                self.answer(json.dumps(waited[0]).encode())
                waited[0] = 0.0
            else:
                asked = json.loads(body)["messages"][-1]["content"]
                asyncio.get_running_loop().call_later(wait_s, self.reply, asked, time.perf_counter())

    def reply(self, asked, began):
        text = ("billing", "cards", "delivery", "account")[hash(asked) % 4]
        self.answer(json.dumps({
            "choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": len(asked) // 4, "completion_tokens": 2}}).encode())
        waited[0] += time.perf_counter() - began

    def answer(self, body):
        head = b"HTTP/1.1 200 OK\\r\\nContent-Type: application/json\\r\\nContent-Length: %d\\r\\n\\r\\n"
        self.transport.write(head % len(body) + body)

def length(head):
    lines = head.lower().split(b"\\r\\n")
    return next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0)

async def serve():
    server = await asyncio.get_running_loop().create_server(Chat, "127.0.0.1", int(sys.argv[2]), backlog=512)
    await server.serve_forever()

asyncio.run(serve())
"""


def waited_s(url: str) -> float:
    """Seconds that all calls since the last question waited."""
    import httpx

    return float(httpx.get(url, trust_env=False).json())


SITE = Site(
    site_id="desk",
    site_version="v1",
    agent_name="desk",
    model="m",
    template=Template(
        messages=(
            {"role": "system", "content": ["You sort the tickets of ", {"slot": "company"}, ". Name the queue."]},
            {"role": "user", "content": ["Ticket: ", {"slot": "ticket"}]},
        )
    ),
    params={"temperature": 0.0},
)


def cases_of(n: int) -> tuple[Case, ...]:
    """Tickets of forty words each."""
    draw = random.Random(0)
    words = ["".join(draw.choices("abdeiklmnorstu", k=draw.randint(3, 9))) for _ in range(900)]
    return tuple(
        Case(
            case_id=f"t{number}/0",
            trajectory_id=f"t{number}",
            step=0,
            site_id="desk",
            task_key=None,
            task_group=f"g{number}",
            pool="learn",
            values={"company": "ACME", "ticket": f"{number}: {' '.join(draw.choices(words, k=40))}"},
            logged_messages=(),
            logged_output=CODES[number % 4],
            reward=1.0,
        )
        for number in range(n)
    )


def study_of(
    night: Night, chat: HttpChatModel, cases: Sequence[Case], train: Sequence[Case], recording: replaying.Recording
) -> Study:
    """As a night's search tries a prompt on cases."""
    ledger = Ledger(Budget(calls=10**9))
    cached = CachedModel(chat, night.answers, ledger, now_ns=night.clock())
    graders = Graders(verifiers=judging.open_verifiers(night.config), judge=None, compares=None, cautious=True)
    replay = SingleStep(model=cached, grade=graders.alone, valid=replaying.validity(night), worth=graders.can)

    def evaluate(artifact: Artifact, some: Sequence[Case]) -> list[Outcome]:
        outcomes = replay(artifact, some)
        candidate_id = f"{night.night_id}/{hash(artifact.to_json())}"
        recording.add(candidate_id, outcomes)
        night.tell("optimize", "model calls", ledger.spent.calls, 10**9)
        return outcomes

    return Study(
        site=SITE,
        baseline=baseline(SITE),
        train=tuple(train),
        tune=tuple(cases),
        replay=evaluate,
    )


def prompts(train: Sequence[Case], n: int, seed: str) -> list[Artifact]:
    """Production's prompt with four drawn demonstrations each."""
    own, draw = baseline(SITE), random.Random(seed)
    return [with_demonstrations(own, [demo_from_case(own, one) for one in draw.sample(train, 4)]) for _ in range(n)]


def measured(url: str, ask: Callable[[], int], ideal_s: float, concurrency: int) -> dict[str, float]:
    """`ask` returns how many rows it saw through."""
    waited_s(url)
    began, cpu = time.perf_counter(), time.process_time()
    rows = ask()
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    really = waited_s(url)
    found = {"rows": rows, "wall_s": wall, "cpu_ms": 1000 * cpu / rows}
    if not really:
        return {**found, "rows_s": rows / wall, "rows_cpu_s": rows / cpu}
    busy = max(ideal_s, really / concurrency)
    return {**found, "overhead": wall / ideal_s - 1, "waited": really / rows * 1000, "beyond": wall / busy - 1}


def contenders(
    night: Night, url: str, concurrency: int, cases: Sequence[Case], n: int, seed: str
) -> dict[str, Callable[[], int]]:
    train = cases_of(2000)[-200:]
    tried = prompts(train, n, seed)

    def chat() -> int:
        model = HttpChatModel(url, concurrency=concurrency)
        return sum(len(model.complete([request_for(one, case, seed=1) for case in cases])) for one in tried)

    def run(name: str) -> Callable[[], int]:
        def ask() -> int:
            chat = HttpChatModel(url, concurrency=concurrency)
            own = replace(night, night_id=f"{name}{seed}")
            with replaying.Recording(own, purpose="tune") as recording:
                study = study_of(recording.night, chat, cases, train, recording)
                return sum(tuned(study, one)[1] for one in tried)

        return ask

    return {"chat": chat, "run": run("run"), "again": run("again")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one round, a third of the prompts")
    parser.add_argument("--wait-ms", type=float, default=50)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    rounds = 1 if given.quick else given.rounds
    sizes = {"large": (960, 1 if given.quick else 3), "small": (48, 8 if given.quick else 24)}
    print(machine(), flush=True)
    figures: dict[str, dict[str, list[dict[str, float]]]] = {}
    with tempfile.TemporaryDirectory() as folder, serving(SERVER, str(given.wait_ms / 1000)) as url:
        (Path(folder) / "tracemill.toml").write_text('[[rewards]]\nkind = "exact_match"\n')
        config = settings.load(Path(folder))
        with Lake.create(config.lake_path) as lake:
            night = Night(night_id="bench", config=config, lake=lake, clock=lambda: NOW)
            for one in contenders(night, url, given.concurrency, cases_of(32), 1, "warm").values():
                one()
            for turn in range(rounds):
                for size, (n_cases, n_prompts) in sizes.items():
                    cases = cases_of(n_cases)
                    ideal_s = n_prompts * ceil(n_cases / given.concurrency) * given.wait_ms / 1000
                    asks = contenders(night, url, given.concurrency, cases, n_prompts, f"{size}{turn}")
                    for name, ask in asks.items():
                        found = measured(url, ask, ideal_s, given.concurrency)
                        figures.setdefault(size, {}).setdefault(name, []).append(found)
                        print(f"{size} {name}: {json.dumps({k: round(v, 3) for k, v in found.items()})}", flush=True)
    medians = {
        size: {
            name: {key: round(statistics.median(one[key] for one in runs), 4) for key in runs[0]}
            for name, runs in by_name.items()
        }
        for size, by_name in figures.items()
    }
    result = {"bench": "replay_speed", "wait_ms": given.wait_ms, "concurrency": given.concurrency, "medians": medians}
    print(json.dumps(result | {"load_at_the_end": os.getloadavg()[0]}))


if __name__ == "__main__":
    main()
