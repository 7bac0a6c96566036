-- Rebuilt trajectories without a task group, with the text of their task: the last user message of the first model
-- call, else what the first span was given.
WITH ungrouped AS (
    SELECT trajectory_id, task_key FROM temp.rebuilt_trajectories WHERE task_group IS NULL
),
asked AS (
    SELECT s.trace_id, s.input_ids
    FROM spans s
    JOIN (
        SELECT c.trace_id, c.span_id
        FROM temp.rebuilt_steps c
        SEMI JOIN ungrouped u ON u.trajectory_id = c.trace_id
        WHERE c.step = 0
    ) c ON c.trace_id = s.trace_id AND c.span_id = s.span_id
    WHERE s.kind = 'llm' AND {near}
),
ids AS (
    SELECT trace_id, unnest(input_ids) AS message_id, generate_subscripts(input_ids, 1) AS place FROM asked
),
users AS (
    SELECT message_id, any_value(text) AS text
    FROM messages
    WHERE role = 'user' AND text <> '' AND message_id IN (SELECT message_id FROM ids)
    GROUP BY message_id
),
said AS (
    SELECT i.trace_id, arg_max(m.text, i.place) AS text
    FROM ids i
    JOIN users m USING (message_id)
    GROUP BY i.trace_id
),
opening AS (
    SELECT s.trace_id, coalesce(s.tool_args, s.attributes) AS text
    FROM spans s
    JOIN (
        SELECT w.trace_id, arg_min(b.span_id, b.rowid) AS span_id
        FROM wanted w
        SEMI JOIN ungrouped u ON u.trajectory_id = w.trace_id
        ANTI JOIN said a ON a.trace_id = w.trace_id
        JOIN temp.rebuilt_spans b ON b.trace = w.trace
        GROUP BY w.trace_id
    ) f ON f.trace_id = s.trace_id AND f.span_id = s.span_id
    WHERE {near}
)
SELECT u.trajectory_id, u.task_key, coalesce(s.text, o.text) AS task_text
FROM ungrouped u
LEFT JOIN said s ON s.trace_id = u.trajectory_id
LEFT JOIN opening o ON o.trace_id = u.trajectory_id
ORDER BY u.trajectory_id
