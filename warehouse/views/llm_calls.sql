-- after: calls
-- One row per real model call: wrappers and calls logged twice are not here, so token sums are what was paid for.
-- input_text and output_text hold the messages as text, input_messages and output_messages as JSON lists in order.
SELECT
    c.trajectory_id, c.step, c.span_id, c.site_id, c.site_version, c.day,
    c.started_at, c.latency_ms,
    c.session_id, c.user_key, c.service, c.agent_name, c.agent_version, c.provider, c.model, c.params,
    c.status, c.error_type, c.error_message, c.finish_reason,
    g.input_text, g.output_text, g.input_messages, g.output_messages,
    c.tokens_in, c.tokens_cache_read, c.tokens_cache_write, c.tokens_out, c.tokens_reasoning, c.cost_usd,
    c.prompt_name, c.prompt_version, c.trainable, c.untrainable_reason, c.source_format, c.flags
FROM calls c
-- Lateral, so that what is said is looked up for the calls that a query asks for, by whatever column it chooses them.
LEFT JOIN LATERAL (
    -- The lists are read once more instead of being passed in: by lists, DuckDB would number all calls there are.
    WITH ids AS (
        SELECT
            list_concat(coalesce(t.system_ids, []), coalesce(t.input_ids, [])) AS input_ids,
            coalesce(t.output_ids, []) AS output_ids
        FROM transitions t
        WHERE t.trajectory_id = c.trajectory_id AND t.step = c.step
    ),
    places AS (
        SELECT 'in' AS side, unnest(input_ids) AS message_id, generate_subscripts(input_ids, 1) AS place FROM ids
        UNION ALL
        SELECT 'out', unnest(output_ids), generate_subscripts(output_ids, 1) FROM ids
    ),
    -- The day of the call is where its messages are, so that one day's file is read. Those that are not there (undated
    -- or told in parts) are looked for everywhere.
    near AS (
        SELECT p.side, p.place, m.role, m.name, m.text, m.parts
        FROM places p
        JOIN messages m ON m.message_id = p.message_id AND m.day = c.day
    ),
    said AS (
        SELECT * FROM near
        UNION ALL
        SELECT p.side, p.place, any_value(m.role), any_value(m.name), any_value(m.text), any_value(m.parts)
        FROM (
            SELECT p.side, p.place, p.message_id
            FROM places p
            LEFT JOIN near n ON n.side = p.side AND n.place = p.place
            WHERE n.side IS NULL
        ) p
        JOIN messages m ON m.message_id = p.message_id
        GROUP BY p.side, p.place
    ),
    told AS (
        SELECT side, place, role, text, {'role': role, 'name': name, 'parts': try_cast(parts AS JSON)} AS message FROM said
    )
    SELECT
        string_agg(role || ': ' || text, chr(10) ORDER BY place) FILTER (WHERE side = 'in') AS input_text,
        string_agg(text, chr(10) ORDER BY place) FILTER (WHERE side = 'out') AS output_text,
        to_json(list(message ORDER BY place) FILTER (WHERE side = 'in')) AS input_messages,
        to_json(list(message ORDER BY place) FILTER (WHERE side = 'out')) AS output_messages
    FROM told
) g ON true
