-- One row per tool call, with the step that asked for it and how that is known: by the call's `id` in the model's answer,
-- by the tree (the tool hangs below the call: `parent`), or by `order` (the last call before it of the same parent, else
-- of the trajectory). asked_step is NULL where no model call came before it.
SELECT
    e.trajectory_id, r.asked_step, r.known_by, r.place, r.span_id, r.tool_call_id, r.tool_name, r.tool_args,
    r.tool_result, r.status, r.error_type, r.error_message, r.day, r.flags
FROM (SELECT DISTINCT trace_id AS trajectory_id FROM spans WHERE kind = 'tool') e
-- Lateral, so that calls and messages are looked up for the trajectories that a query asks for.
JOIN LATERAL (
    -- Their ids are handed on once: of several scans that take them each for itself, DuckDB would let all but one read
    -- everything.
    WITH one AS MATERIALIZED (
        SELECT e.trajectory_id AS id
    ),
    calls AS (
        SELECT trajectory_id, step, span_id, day, output_ids, parent_span_id, start_ns, seq
        FROM one
        JOIN transitions x ON x.trajectory_id = one.id
    ),
    tools AS (
        SELECT trace_id AS trajectory_id, span_id, parent_span_id, tool_call_id, start_ns, seq
        FROM one
        JOIN spans x ON x.trace_id = one.id AND x.kind = 'tool'
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
        SELECT trajectory_id, step, day, unnest(output_ids) AS message_id
        FROM calls
        WHERE trajectory_id IN (SELECT trajectory_id FROM tools WHERE tool_call_id IS NOT NULL)
    ),
    -- The day of the call is where its messages are, so that one day's file is read for one trajectory. Those that are
    -- not there (undated or told in parts) are looked for everywhere.
    near AS (
        SELECT
            s.trajectory_id, s.step, s.message_id,
            CASE
                WHEN m.role = 'assistant' AND contains(m.parts, '"tool_call"')
                THEN json_extract_string(TRY_CAST(m.parts AS JSON), '$[*].id')
            END AS ids
        FROM said s
        JOIN messages m ON m.message_id = s.message_id AND m.day = s.day
    ),
    far AS (
        SELECT s.trajectory_id, s.step, json_extract_string(TRY_CAST(m.parts AS JSON), '$[*].id') AS ids
        FROM (
            SELECT a.trajectory_id, a.step, a.message_id
            FROM said a
            LEFT JOIN near n ON n.trajectory_id = a.trajectory_id AND n.step = a.step AND n.message_id = a.message_id
            WHERE n.step IS NULL
        ) s
        JOIN messages m ON m.message_id = s.message_id
        WHERE m.role = 'assistant' AND contains(m.parts, '"tool_call"')
    ),
    asked AS (
        SELECT DISTINCT trajectory_id, step, unnest(ids) AS tool_call_id
        FROM (SELECT trajectory_id, step, ids FROM near UNION ALL FROM far)
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
) r ON true
