-- Rebuilt trajectories without a task group, with the text of their task: the last user message of the first model
-- call, else what the first span was given.
WITH ids AS (
    SELECT c.trace_id, unnest(c.input_ids) AS message_id, generate_subscripts(c.input_ids, 1) AS place
    FROM temp.rebuilt_calls c
    JOIN temp.rebuilt_trajectories t ON t.trajectory_id = c.trace_id AND t.task_group IS NULL
),
said AS (
    SELECT i.trace_id, m.text
    FROM ids i
    JOIN (
        SELECT message_id, any_value(role) AS role, any_value(text) AS text
        FROM messages
        SEMI JOIN ids USING (message_id)
        GROUP BY message_id
    ) m USING (message_id)
    WHERE m.role = 'user' AND m.text <> ''
    QUALIFY row_number() OVER (PARTITION BY i.trace_id ORDER BY i.place DESC) = 1
),
opening AS (
    SELECT trace_id, coalesce(tool_args, attributes) AS text FROM temp.rebuilt_spans WHERE nth = 1
)
SELECT t.trajectory_id, t.task_key, coalesce(s.text, o.text) AS task_text
FROM temp.rebuilt_trajectories t
LEFT JOIN said s ON s.trace_id = t.trajectory_id
LEFT JOIN opening o ON o.trace_id = t.trajectory_id
WHERE t.task_group IS NULL
ORDER BY t.trajectory_id
