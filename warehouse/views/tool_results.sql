-- One row per tool call, with the step that asked for it and how that is known: by the call's `id` in the model's answer,
-- by the tree (the tool hangs below the call: `parent`), or by `order` (the last call before it of the same parent, else
-- of the trajectory). asked_step is NULL where no model call came before it.
WITH calls AS (
    SELECT trajectory_id, step, span_id, output_ids, parent_span_id, start_ns, seq FROM transitions
),
tools AS (
    SELECT trace_id AS trajectory_id, span_id, parent_span_id, tool_call_id, start_ns, seq FROM spans WHERE kind = 'tool'
),
-- Calls and tools in one order.
run AS (
    SELECT trajectory_id, span_id, parent_span_id, start_ns, seq, step FROM calls
    UNION ALL
    SELECT trajectory_id, span_id, parent_span_id, start_ns, seq, NULL FROM tools
),
placed AS (
    SELECT
        trajectory_id, span_id, step,
        last_value(step IGNORE NULLS) OVER before AS last_step,
        last_value(step IGNORE NULLS) OVER beside AS sibling_step
    FROM run
    WINDOW
        before AS (
            PARTITION BY trajectory_id ORDER BY start_ns NULLS LAST, seq NULLS LAST, span_id
            ROWS UNBOUNDED PRECEDING
        ),
        beside AS (
            PARTITION BY trajectory_id, parent_span_id ORDER BY start_ns NULLS LAST, seq NULLS LAST, span_id
            ROWS UNBOUNDED PRECEDING
        )
),
said AS (
    SELECT trajectory_id, step, unnest(output_ids) AS message_id
    FROM calls
    SEMI JOIN (SELECT trajectory_id FROM tools WHERE tool_call_id IS NOT NULL) USING (trajectory_id)
),
asked AS (
    SELECT DISTINCT s.trajectory_id, s.step, unnest(m.ids) AS tool_call_id
    FROM said s
    JOIN (
        SELECT message_id, any_value(json_extract_string(TRY_CAST(parts AS JSON), '$[*].id')) AS ids
        FROM messages
        WHERE role = 'assistant' AND contains(parts, '"tool_call"')
        GROUP BY message_id
    ) m USING (message_id)
),
-- An id that is used again ("call_0") means the last call before the tool that used it.
by_id AS (
    SELECT
        t.trajectory_id, t.span_id,
        coalesce(max(a.step) FILTER (a.step <= p.last_step), min(a.step)) AS step
    FROM tools t
    JOIN asked a ON a.trajectory_id = t.trajectory_id AND a.tool_call_id = t.tool_call_id
    JOIN placed p ON p.trajectory_id = t.trajectory_id AND p.span_id = t.span_id
    GROUP BY t.trajectory_id, t.span_id
)
SELECT
    t.trajectory_id,
    coalesce(i.step, c.step, p.sibling_step, p.last_step) AS asked_step,
    CASE
        WHEN i.step IS NOT NULL THEN 'id'
        WHEN c.step IS NOT NULL THEN 'parent'
        WHEN coalesce(p.sibling_step, p.last_step) IS NOT NULL THEN 'order'
    END AS known_by,
    CAST(row_number() OVER (
        PARTITION BY t.trajectory_id, coalesce(i.step, c.step, p.sibling_step, p.last_step)
        ORDER BY s.start_ns NULLS LAST, s.seq NULLS LAST, s.span_id
    ) - 1 AS INTEGER) AS place,
    t.span_id, t.tool_call_id, coalesce(s.tool_name, s.name) AS tool_name, s.tool_args, s.tool_result,
    s.status, s.error_type, s.error_message, s.day, s.flags
FROM tools t
JOIN spans s ON s.trace_id = t.trajectory_id AND s.span_id = t.span_id AND s.kind = 'tool'
LEFT JOIN placed p ON p.trajectory_id = t.trajectory_id AND p.span_id = t.span_id
LEFT JOIN by_id i ON i.trajectory_id = t.trajectory_id AND i.span_id = t.span_id
LEFT JOIN calls c ON c.trajectory_id = t.trajectory_id AND c.span_id = t.parent_span_id
