"""Columns for TRL: one model call a row, `prompt` and `completion` as chat messages.

Only calls that may be learned from (`transitions.trainable`). `reward` is what the trajectory was judged worth, NULL
where nobody judged; the token ids and log-probabilities are those of the engine where it logged them, never computed
afterwards. Arguments of tool calls are text, as the model wrote them. Not carried: times, costs, the tree.
"""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from tracemill.chat import ChatMessage
from tracemill.ids import canonical_json
from tracemill.ingest.exports.episode import Episode

_FUNCTION = pa.struct([("name", pa.string()), ("arguments", pa.string())])
_CALL = pa.struct([("id", pa.string()), ("type", pa.string()), ("function", _FUNCTION)])
_MESSAGES = pa.list_(
    pa.struct(
        [
            ("role", pa.string()),
            ("content", pa.string()),
            ("name", pa.string()),
            ("reasoning_content", pa.string()),
            ("tool_calls", pa.list_(_CALL)),
            ("tool_call_id", pa.string()),
        ]
    )
)


class TrlExport:
    """Writer of TRL's conversational prompt-completion columns."""

    name = "trl"
    about = "prompt, completion, tools, reward and token ids of every call that may be learned from"
    table = pa.schema(
        [
            ("prompt", _MESSAGES),
            ("completion", _MESSAGES),
            ("tools", pa.string()),
            ("reward", pa.float64()),
            ("prompt_token_ids", pa.list_(pa.int32())),
            ("completion_token_ids", pa.list_(pa.int32())),
            ("completion_logprobs", pa.list_(pa.float32())),
            ("model", pa.string()),
            ("trajectory_id", pa.string()),
            ("step", pa.int32()),
            ("task_key", pa.string()),
            ("task_group", pa.string()),
        ]
    )

    def records(self, episode: Episode) -> Iterator[dict[str, Any]]:
        reward = episode.reward()
        for row in episode.transitions:
            if not row["trainable"] or row["input_ids"] is None or not row["output_ids"]:
                continue
            tools = episode.tools(row["tool_definitions_id"])
            yield {
                "prompt": [_plain(one) for one in episode.chat([*(row["system_ids"] or ()), *row["input_ids"]])],
                "completion": [_plain(one) for one in episode.chat(row["output_ids"][:1])],
                "tools": canonical_json(tools) if tools else None,
                "reward": reward,
                "prompt_token_ids": row["input_token_ids"],
                "completion_token_ids": row["output_token_ids"],
                "completion_logprobs": row["output_logprobs"],
                "model": row["model"],
                "trajectory_id": row["trajectory_id"],
                "step": row["step"],
                "task_key": episode.trajectory["task_key"],
                "task_group": episode.trajectory["task_group"],
            }


def _plain(message: ChatMessage) -> ChatMessage:
    """The message with its content as text: a table's column has one type. Images become their JSON."""
    content = message.get("content")
    if isinstance(content, list):
        text = [item["text"] if item.get("type") == "text" else canonical_json(item) for item in content]
        return {**message, "content": "\n".join(text)}
    return message
