-- Rebuilt trajectories without a task group, with the text of their task: the last user message of the first model call.
CREATE OR REPLACE TEMP TABLE rebuilt_tasks AS
WITH ids AS (
    SELECT s.trace_id, unnest(s.input_ids) AS message_id, generate_subscripts(s.input_ids, 1) AS place
    FROM temp.rebuilt_read s
    JOIN (FROM temp.rebuilt_steps WHERE step = 0) c ON c.place = s.rowid
),
said AS (
    SELECT i.trace_id, arg_max(m.said, i.place) AS text
    FROM ids i
    JOIN temp.rebuilt_messages m USING (message_id)
    WHERE m.said IS NOT NULL
    GROUP BY i.trace_id
)
SELECT u.trajectory_id, u.task_key, s.text
FROM temp.rebuilt_trajectories u
LEFT JOIN said s ON s.trace_id = u.trajectory_id
WHERE u.task_group IS NULL
