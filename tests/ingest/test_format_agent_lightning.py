"""Agent Lightning: attempts are trajectories, rewards are scores, token ids are the engine's."""

import json
from typing import Any

import pytest

SPAN = {
    "rollout_id": "ro-1",
    "attempt_id": "at-1",
    "sequence_id": 3,
    "trace_id": "0af7651916cd43dd8448eb211c80319c",
    "span_id": "b7ad6b7169203331",
    "parent_id": None,
    "name": "openai.chat.completion",
    "status": {"status_code": "OK", "description": None},
    "start_time": 1700000000.5,
    "end_time": 1700000002.0,
    "attributes": {
        "gen_ai.request.model": "qwen",
        "gen_ai.prompt.0.role": "user",
        "gen_ai.prompt.0.content": "2+2?",
        "gen_ai.completion.0.role": "assistant",
        "gen_ai.completion.0.content": "4",
        "gen_ai.usage.prompt_tokens": 4,
        "gen_ai.usage.completion_tokens": 2,
        "gen_ai.response.id": "chatcmpl-1",
        "prompt_token_ids": [1, 2, 3, 4],
        "response_token_ids": [5, 6],
    },
    "events": [],
    "links": [],
    "resource": {"attributes": {"agentlightning.rollout_id": "ro-1", "service.name": "calc"}, "schema_url": ""},
}
REWARD = {
    **SPAN,
    "sequence_id": 4,
    "span_id": "b7ad6b7169203332",
    "trace_id": "0af7651916cd43dd8448eb211c80319d",
    "name": "agentlightning.annotation",
    "attributes": {"agentlightning.reward.0.name": "reward", "agentlightning.reward.0.value": 0.75},
}


def request(answer: str = "4", at: float = 1700000002.0, **data: Any) -> dict[str, Any]:
    choice = {
        "message": {"role": "assistant", "content": answer},
        "finish_reason": "stop",
        "token_ids": [5, 6],
        "logprobs": {"content": [{"token": "4", "logprob": -0.5}, {"token": "", "logprob": -0.25}]},
    }
    response = {"id": "r-1", "model": "policy", "choices": [choice], "prompt_token_ids": [1, 2, 3, 4]}
    return {
        "event_type": "model_request",
        "rollout_id": "ro-1",
        "attempt_id": "0",
        "timestamp": at,
        "data": {
            "model": "policy",
            "model_version": 7,
            "request": {"model": "agl", "messages": [{"role": "user", "content": "2+2?"}], "temperature": 0.2},
            "adjusted_params": {"temperature": 1.0},
            "response": response | {"usage": {"prompt_tokens": 4, "completion_tokens": 2}},
            "latency_ms": 1500.0,
            "http_status": 200,
            "status": "ok",
            "retry_count": 1,
            **data,
        },
    }


def reward(value: float | None, at: float = 1700000003.0, **data: Any) -> dict[str, Any]:
    data = {"value": value, **data}
    return {"event_type": "reward", "rollout_id": "ro-1", "attempt_id": "0", "timestamp": at, "data": data}


def test_spans_of_an_attempt_are_one_trajectory_whatever_their_traces(take: Any) -> None:
    taken = take(lines=[SPAN, REWARD, {**SPAN, "attempt_id": "at-2"}])
    call, judged, other = taken.spans
    assert call["trace_id"] == judged["trace_id"] != other["trace_id"]
    assert {span["session_id"] for span in taken.spans} == {"ro-1"}
    assert (call["kind"], call["seq"], call["model_requested"], call["service"]) == ("llm", 3, "qwen", "calc")
    assert (call["start_ns"], call["end_ns"], call["status"]) == (
        1_700_000_000_500_000_000,
        1_700_000_002_000_000_000,
        "ok",
    )
    assert (taken.texts(call["input_ids"]), taken.texts(call["output_ids"])) == (["2+2?"], ["4"])
    (score,) = taken.scores
    assert (score["name"], score["value"], score["target_id"]) == ("reward", 0.75, call["trace_id"])
    assert json.loads(call["attributes"])["agentlightning.trace_id"] == SPAN["trace_id"]
    assert taken.ledger[0]["format_reason"] == "spans of rollouts (Agent Lightning 0.x)"


def test_token_ids_are_kept_and_where_they_came_from(take: Any) -> None:
    (call,) = take(lines=[SPAN]).spans
    assert (call["input_token_ids"], call["output_token_ids"]) == ([1, 2, 3, 4], [5, 6])
    assert json.loads(call["attributes"])["token_ids"] == "engine"


def test_the_proxys_token_ids_are_read_from_the_text_of_python_values(take: Any) -> None:
    attributes = {
        "gen_ai.request.model": "qwen",
        "llm.hosted_vllm.prompt_token_ids": "[1, 2]",
        "llm.hosted_vllm.choices": "[{'token_ids': [5, 6], 'logprobs': {'content': "
        "[{'logprob': -0.5, 'token': None}, {'logprob': -1.0}]}}]",
    }
    (call,) = take(lines=[{**SPAN, "attributes": attributes}]).spans
    assert (call["input_token_ids"], call["output_token_ids"], call["output_logprobs"]) == ([1, 2], [5, 6], [-0.5, -1])


def test_python_text_that_is_no_value_costs_only_the_ids(take: Any) -> None:
    attributes = {"gen_ai.request.model": "qwen", "llm.hosted_vllm.choices": "[__import__('os').getcwd()]"}
    (call,) = take(lines=[{**SPAN, "attributes": attributes}]).spans
    assert (call["output_token_ids"], call["model_requested"]) == (None, "qwen")


def test_a_model_request_is_a_call(take: Any) -> None:
    taken = take(lines=[request(), reward(1.0)])
    call = taken.span
    assert (call["kind"], call["model_requested"], call["model"], call["session_id"]) == (
        "llm",
        "agl",
        "policy",
        "ro-1",
    )
    assert (call["end_ns"] - call["start_ns"], call["status"]) == (1_500_000_000, "ok")
    assert json.loads(call["params"])["temperature"] == 1.0
    assert (call["tokens_in"], call["tokens_out"], call["finish_reasons"]) == (4, 2, ["stop"])
    assert (call["input_token_ids"], call["output_token_ids"], call["output_logprobs"]) == (
        [1, 2, 3, 4],
        [5, 6],
        [-0.5, -0.25],
    )
    attributes = json.loads(call["attributes"])
    assert (attributes["model_version"], attributes["retry_count"], attributes["token_ids"]) == (7, 1, "engine")
    (score,) = taken.scores
    assert (score["name"], score["value"], score["target_id"], score["source"]) == (
        "reward",
        1.0,
        call["trace_id"],
        "env",
    )


def test_trimmed_events_still_have_their_tokens(take: Any) -> None:
    data = {"prompt_token_ids": [1], "response_token_ids": [2, 3], "response_log_probs": [-1.0, -2.0]}
    bare = {**request(), "data": {"model": "policy", **data}}
    (call,) = take(lines=[bare]).spans
    assert (call["input_token_ids"], call["output_token_ids"], call["output_logprobs"]) == ([1], [2, 3], [-1.0, -2.0])
    assert call["input_ids"] is None


def test_attempts_are_trajectories_of_one_session(take: Any) -> None:
    taken = take(lines=[request(), {**request(), "attempt_id": "1"}])
    assert len({span["trace_id"] for span in taken.spans}) == 2
    assert {span["session_id"] for span in taken.spans} == {"ro-1"}


def test_parallel_samples_of_one_prompt_stay_apart(take: Any) -> None:
    assert len(take(lines=[request("4"), request("four"), request("4")]).spans) == 2


def test_a_made_up_reward_is_no_judgement(take: Any) -> None:
    taken = take(lines=[reward(0.0, source="fallback", reason="timeout"), reward(None), reward(0.5, at=1700000009.0)])
    assert [(row["name"], row["value"]) for row in taken.scores] == [
        ("reward_fallback", 0.0),
        ("reward", None),
        ("reward", 0.5),
    ]
    assert json.loads(taken.scores[0]["evidence"]) == {"source": "fallback", "reason": "timeout"}


@pytest.mark.parametrize("data", [{"http_status": 503}, {"status": "error"}])
def test_failed_requests_are_errors(take: Any, data: dict[str, Any]) -> None:
    (call,) = take(lines=[request(response={"error": {"message": "no room", "type": "overloaded"}}, **data)]).spans
    assert (call["status"], call["error_message"], call["error_type"]) == ("error", "no room", "overloaded")
    assert call["output_ids"] in (None, [])


def test_other_events_are_steps_and_rollouts_are_roots(take: Any) -> None:
    status = {"state": "failed", "error_message": "killed", "created_at": 1700000000.0, "updated_at": 1700000009.0}
    rollout = {"rollout_id": "ro-1", "input": {"question": "2+2?"}, "is_train": True, "status": status}
    note = {**reward(1.0), "event_type": "note", "data": {"text": "hello"}}
    taken = take(lines=[rollout, request(), note])
    root, call, event = taken.spans
    assert (root["kind"], root["status"], root["error_message"]) == ("agent", "error", "killed")
    assert root["trace_id"] == call["trace_id"] == event["trace_id"]
    assert json.loads(root["attributes"])["input"] == {"question": "2+2?"}
    assert (event["kind"], event["name"], json.loads(event["attributes"])["text"]) == ("event", "note", "hello")


def test_a_bad_record_is_quarantined_and_the_others_land(take: Any) -> None:
    taken = take(lines=[request(), {"rollout_id": "ro-1"}, {**SPAN, "span_id": None}, "{torn", request("5")])
    assert len(taken.spans) == 2
    assert [row["line"] for row in taken.quarantine] == [2, 3, 4]
