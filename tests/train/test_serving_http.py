"""The server over real HTTP, in its own process, as an agent and the night see it."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tracemill.errors import ConfigError
from tracemill.train import serving

MESSAGES = [
    {"role": "system", "content": "You route tickets to billing, shipping, returns or account."},
    {"role": "user", "content": "My parcel has not arrived."},
]


@pytest.fixture(scope="module")
def endpoint(tiny: Path, adapters: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("server")
    with serving.start(
        str(tiny), cache=folder, log=folder / "server.log", adapters={"first": adapters["first"]}, threads=1
    ) as endpoint:
        yield endpoint


def _post(endpoint: serving.Endpoint, call: str, body: Any) -> tuple[int, Any]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(f"{endpoint.base_url}/{call}", data=raw)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def _chat(endpoint: serving.Endpoint, **body: Any) -> tuple[int, Any]:
    asked = {"model": "tiny-llama", "messages": MESSAGES, "temperature": 0, "max_tokens": 6} | body
    return _post(endpoint, "chat/completions", asked)


def test_an_answer_has_the_shape_of_openai_with_token_ids_and_logprobs(endpoint: serving.Endpoint) -> None:
    status, answer = _chat(endpoint, logprobs=True, return_token_ids=True)
    assert status == 200
    choice = answer["choices"][0]
    assert answer["object"] == "chat.completion"
    assert choice["message"]["role"] == "assistant"
    assert choice["finish_reason"] in {"stop", "length"}
    assert len(choice["token_ids"]) == len(choice["logprobs"]["content"]) == answer["usage"]["completion_tokens"]
    assert len(answer["prompt_token_ids"]) == answer["usage"]["prompt_tokens"]
    assert all(entry["logprob"] <= 0 for entry in choice["logprobs"]["content"])


def test_the_openai_client_is_served(endpoint: serving.Endpoint) -> None:
    from openai import OpenAI

    with OpenAI(base_url=endpoint.base_url, api_key="none") as client:
        answer = client.chat.completions.create(model=endpoint.model, messages=MESSAGES, max_tokens=4, seed=5)
        assert answer.choices[0].message.content is not None
        assert {model.id for model in client.models.list()} == {"tiny-llama", "first"}


def test_concurrent_requests_get_the_answers_they_get_alone(endpoint: serving.Endpoint) -> None:
    def ask(number: int) -> str:
        turn = {"role": "user", "content": f"Ticket {number}: " + "where is it " * (number % 4)}
        status, answer = _chat(endpoint, messages=[MESSAGES[0], turn], model=("tiny-llama", "first")[number % 2])
        assert status == 200
        return str(answer["choices"][0]["message"]["content"])

    alone = [ask(number) for number in range(12)]
    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(ask, range(12))) == alone


def test_adapters_come_and_go_while_the_base_stays_what_it_was(
    endpoint: serving.Endpoint, adapters: dict[str, Path]
) -> None:
    def say(model: str) -> str:
        status, answer = _chat(endpoint, model=model, return_token_ids=True)
        assert status == 200, answer
        return str(answer["choices"][0]["token_ids"])

    base, first = say("tiny-llama"), say("first")
    endpoint.load_adapter("second", adapters["second"])
    endpoint.load_adapter("second", adapters["second"])
    assert len({base, first, say("second")}) == 3
    assert (say("tiny-llama"), say("first")) == (base, first)
    endpoint.unload_adapter("second")
    assert _chat(endpoint, model="second")[0] == 404
    assert (say("tiny-llama"), say("first")) == (base, first)
    endpoint.unload_adapter("first")
    assert say("tiny-llama") == base
    endpoint.load_adapter("first", adapters["first"])
    assert say("first") == first


def test_a_wrong_adapter_is_refused_and_nothing_changes(
    endpoint: serving.Endpoint, adapters: dict[str, Path], tmp_path: Path
) -> None:
    before = _chat(endpoint)[1]["choices"][0]["message"]
    with pytest.raises(ConfigError, match="already loaded from"):
        endpoint.load_adapter("first", adapters["second"])
    with pytest.raises(ConfigError, match="holds no LoRA adapter"):
        endpoint.load_adapter("nothing", tmp_path)
    with pytest.raises(ConfigError, match="cannot be found"):
        endpoint.unload_adapter("nothing")
    misfit = tmp_path / "misfit"
    misfit.mkdir()
    (misfit / "adapter_model.safetensors").write_bytes((adapters["first"] / "adapter_model.safetensors").read_bytes())
    config = json.loads((adapters["first"] / "adapter_config.json").read_text()) | {"r": 7}
    (misfit / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="does not fit the model tiny-llama"):
        endpoint.load_adapter("misfit", misfit)
    assert _chat(endpoint)[1]["choices"][0]["message"] == before


def test_an_unknown_model_is_404_in_openais_shape(endpoint: serving.Endpoint) -> None:
    status, answer = _chat(endpoint, model="gpt-9")
    assert status == 404
    assert answer["error"]["code"] == "model_not_found"
    assert "served here: tiny-llama" in answer["error"]["message"]


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"temperature": -1}, "temperature"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content"),
        ({"n": 2}, "n:"),
        ({"stream": True}, "stream"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"max_tokens": 5000}, "maximum context length"),
    ],
)
def test_a_bad_request_is_400_and_says_which_field(
    endpoint: serving.Endpoint, body: dict[str, Any], named: str
) -> None:
    status, answer = _chat(endpoint, **body)
    assert status == 400
    assert named in answer["error"]["message"]


def test_what_is_no_json_is_400(endpoint: serving.Endpoint) -> None:
    status, answer = _post(endpoint, "chat/completions", b"{torn")
    assert status == 400
    assert "JSON" in answer["error"]["message"]


def test_text_parts_are_joined(endpoint: serving.Endpoint) -> None:
    parts = [{"type": "text", "text": "My parcel has "}, {"type": "text", "text": "not arrived."}]
    whole = _chat(endpoint, return_token_ids=True)[1]["prompt_token_ids"]
    split = _chat(endpoint, messages=[MESSAGES[0], {"role": "user", "content": parts}], return_token_ids=True)[1]
    assert split["prompt_token_ids"] == whole


def test_a_wrong_model_name_is_one_clear_sentence(tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigError, match="unknown model 'nosuch'"),
        serving.start("nosuch", cache=tmp_path, log=tmp_path / "server.log"),
    ):
        pass


_STARTS_AND_WAITS = """
import sys, time
from pathlib import Path
from tracemill.train import serving
with serving.start(sys.argv[1], cache=Path(sys.argv[2]), log=Path(sys.argv[2]) / "s.log", threads=1) as endpoint:
    print(endpoint.pid, flush=True)
    time.sleep(600)
"""


@pytest.mark.slow
def test_the_server_does_not_outlive_a_killed_parent(tiny: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", _STARTS_AND_WAITS, str(tiny), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        server = int(parent.stdout.readline())
        os.kill(server, 0)
        parent.kill()
    gone = False
    for _ in range(300):
        try:
            os.kill(server, 0)
        except ProcessLookupError:
            gone = True
            break
        if Path(f"/proc/{server}/stat").exists() and Path(f"/proc/{server}/stat").read_text().split()[2] == "Z":
            gone = True  # ended; nobody here to collect it
            break
        time.sleep(0.1)
    assert gone


@pytest.mark.slow
def test_the_server_is_gone_after_the_block(tiny: Path, tmp_path: Path) -> None:
    said: list[str] = []
    with serving.start(
        str(tiny), cache=tmp_path, log=tmp_path / "server.log", threads=1, on_progress=said.append
    ) as endpoint:
        pid = endpoint.pid
    assert said
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
