"""Inspect logs, written by hand: one sample of a desk, its events, and the archive or document around it."""

import io
import json
import zipfile
from typing import Any

EVAL = {
    "eval_set_id": "set-1",
    "eval_id": "eval-1",
    "run_id": "run-1",
    "task": "desk/refunds",
    "task_id": "task-1",
    "solver": "react",
    "model": "openai/gpt-4o",
    "dataset": {"name": "refunds"},
}
SECOND = "2026-01-01T00:00:{:02d}+00:00"
BASH = {"name": "bash", "description": "Runs a command.", "parameters": {"type": "object", "properties": {}}}
CALL = {"id": "c1", "function": "bash", "arguments": {"cmd": "ls"}, "type": "function"}
SYSTEM = {"id": "m0", "role": "system", "content": "attachment://aa"}
USER = {"id": "m1", "role": "user", "content": "List the files.", "source": "input"}
ASKING = {"id": "m2", "role": "assistant", "content": "", "tool_calls": [CALL], "source": "generate"}
ANSWER = {"id": "m3", "role": "tool", "tool_call_id": "c1", "function": "bash", "content": "a.txt\n"}
DONE = {"id": "m4", "role": "assistant", "content": "There is a.txt.", "source": "generate"}


def usage(tokens_in: int, tokens_out: int, **more: Any) -> dict[str, Any]:
    return {"input_tokens": tokens_in, "output_tokens": tokens_out, "total_tokens": tokens_in + tokens_out, **more}


def output(message: dict[str, Any], used: dict[str, Any], stop: str = "stop") -> dict[str, Any]:
    return {"model": "gpt-4o-2024", "choices": [{"message": message, "stop_reason": stop}], "usage": used, "time": 1.5}


def model(at: int, uuid: str, within: str, answer: dict[str, Any], used: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "event": "model",
        "uuid": uuid,
        "span_id": within,
        "timestamp": SECOND.format(at),
        "completed": SECOND.format(at + 1),
        "model": "openai/gpt-4o",
        "input": [],
        "tools": [BASH],
        "tool_choice": "auto",
        "config": {"temperature": 0.5, "top_p": None},
        "output": output(answer, used),
        **more,
    }


def begin(at: int, span: str, name: str, type: str | None, parent: str | None = None) -> dict[str, Any]:
    times = {"event": "span_begin", "timestamp": SECOND.format(at)}
    return {**times, "id": span, "span_id": span, "name": name, "type": type, "parent_id": parent}


def end(at: int, span: str) -> dict[str, Any]:
    return {"event": "span_end", "id": span, "span_id": span, "timestamp": SECOND.format(at)}


def sample(**more: Any) -> dict[str, Any]:
    return {
        "id": "s1",
        "epoch": 1,
        "uuid": "uuid-1",
        "input": "List the files.",
        "target": "a.txt",
        "messages": [SYSTEM, USER, ASKING, ANSWER, DONE],
        "message_pool": [SYSTEM, USER, ASKING, ANSWER],
        "attachments": {"aa": "You are an operator."},
        "started_at": SECOND.format(0),
        "completed_at": SECOND.format(9),
        "metadata": {"level": 2},
        "scores": {"match": {"value": "C", "answer": "a.txt", "explanation": None, "metadata": None, "history": []}},
        "events": [
            begin(0, "solver", "react", "solver"),
            {"event": "state", "span_id": "solver", "timestamp": SECOND.format(0), "changes": []},
            model(1, "call-1", "solver", ASKING, usage(20, 5), input_refs=[[0, 2]], role="main", retries=1),
            {
                "event": "tool",
                "uuid": "tool-1",
                "span_id": "solver",
                "id": "c1",
                "function": "bash",
                "arguments": {"cmd": "ls"},
                "result": "a.txt\n",
                "timestamp": SECOND.format(3),
                "completed": SECOND.format(4),
            },
            model(5, "call-2", "solver", DONE, usage(30, 6), input_refs=[[0, 2], [2, 4]]),
            end(7, "solver"),
            {"event": "info", "uuid": "info-1", "timestamp": SECOND.format(8), "data": "done"},
        ],
        **more,
    }


def log(*samples: Any, **more: Any) -> dict[str, Any]:
    return {"version": 2, "status": "success", "eval": EVAL, "plan": {}, "samples": list(samples), **more}


def archive(*samples: Any, header: str | None = "header.json", method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as packed:
        packed.writestr("_journal/start.json", json.dumps({"version": 2, "eval": EVAL, "plan": {}}))
        for one in samples:
            packed.writestr(f"samples/{one['id']}_epoch_{one['epoch']}.json", json.dumps(one))
        packed.writestr("summaries.json", "[]")
        if header is not None:
            packed.writestr(header, json.dumps({"version": 2, "status": "success", "eval": EVAL}))
    return file.getvalue()
