-- Rebuilt trajectories without a task group, with the text of their task.
SELECT t.trajectory_id, t.task_key, coalesce(t.text, o.text) AS task_text
FROM temp.rebuilt_tasks t
LEFT JOIN temp.rebuilt_openings o ON o.trace_id = t.trajectory_id
ORDER BY t.trajectory_id
