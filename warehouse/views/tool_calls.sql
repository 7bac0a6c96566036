-- One row per tool call, with what it was given and what came back.
SELECT
    trace_id AS trajectory_id, span_id, parent_span_id, day,
    make_timestamp_ns(start_ns) AS started_at,
    (end_ns - start_ns) / 1e6 AS latency_ms,
    session_id, user_key, service, agent_name, coalesce(tool_name, name) AS tool_name, tool_call_id,
    tool_args, tool_result, status, error_type, error_message, source_format, flags, seq
FROM spans
WHERE kind = 'tool'
