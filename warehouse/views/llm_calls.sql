-- One row per real model call: wrappers and calls logged twice are not here, so token sums are what was paid for.
-- input_text and output_text hold the messages as text, input_messages and output_messages as JSON lists in order.
WITH calls AS (
    SELECT
        t.trajectory_id, t.step, t.span_id, t.site_id, t.site_version, t.trainable, t.untrainable_reason,
        s.day, s.session_id, s.user_key, s.name, s.start_ns, s.end_ns, s.status, s.error_type, s.error_message,
        s.service, t.agent_name, s.agent_version, s.provider, t.model, s.params,
        s.tokens_in, s.tokens_cache_read, s.tokens_cache_write, s.tokens_out, s.tokens_reasoning, s.cost_usd,
        s.prompt_name, s.prompt_version, t.finish_reason, s.source_format, s.flags,
        list_concat(coalesce(s.system_ids, []), coalesce(s.input_ids, [])) AS input_ids,
        coalesce(s.output_ids, []) AS output_ids
    FROM transitions t
    JOIN spans s ON s.trace_id = t.trajectory_id AND s.span_id = t.span_id AND s.day IS NOT DISTINCT FROM t.day
),
places AS (
    SELECT trajectory_id, step, 'in' AS side, unnest(input_ids) AS message_id, generate_subscripts(input_ids, 1) AS place
    FROM calls
    UNION ALL
    SELECT trajectory_id, step, 'out', unnest(output_ids), generate_subscripts(output_ids, 1)
    FROM calls
),
said AS (
    -- A message is stored under each day that it was first said on: any of its rows will do.
    SELECT
        p.trajectory_id, p.step, p.side, p.place,
        any_value(m.text) AS text,
        {'role': any_value(m.role), 'name': any_value(m.name), 'parts': try_cast(any_value(m.parts) AS JSON)} AS message
    FROM places p
    JOIN messages m ON m.message_id = p.message_id
    GROUP BY p.trajectory_id, p.step, p.side, p.place
),
given AS (
    SELECT
        trajectory_id,
        step,
        string_agg(message.role || ': ' || text, chr(10) ORDER BY place) FILTER (WHERE side = 'in') AS input_text,
        string_agg(text, chr(10) ORDER BY place) FILTER (WHERE side = 'out') AS output_text,
        to_json(list(message ORDER BY place) FILTER (WHERE side = 'in')) AS input_messages,
        to_json(list(message ORDER BY place) FILTER (WHERE side = 'out')) AS output_messages
    FROM said
    GROUP BY trajectory_id, step
)
SELECT
    c.trajectory_id, c.step, c.span_id, c.site_id, c.site_version, c.day,
    make_timestamp_ns(c.start_ns) AS started_at,
    (c.end_ns - c.start_ns) / 1e6 AS latency_ms,
    c.session_id, c.user_key, c.service, c.agent_name, c.agent_version, c.provider, c.model, c.params,
    c.status, c.error_type, c.error_message, c.finish_reason,
    g.input_text, g.output_text, g.input_messages, g.output_messages,
    c.tokens_in, c.tokens_cache_read, c.tokens_cache_write, c.tokens_out, c.tokens_reasoning, c.cost_usd,
    c.prompt_name, c.prompt_version, c.trainable, c.untrainable_reason, c.source_format, c.flags
FROM calls c
LEFT JOIN given g USING (trajectory_id, step)
