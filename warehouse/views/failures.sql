-- One row per span that failed, and what it was.
SELECT
    trace_id AS trajectory_id, span_id, parent_span_id, day,
    make_timestamp_ns(start_ns) AS started_at,
    kind, coalesce(tool_name, name) AS what, error_type, error_message,
    session_id, service, agent_name, model, source_format
FROM spans
WHERE status = 'error'
