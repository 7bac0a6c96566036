-- What the first span of a trajectory was given, where no user said anything: it stands for the task.
CREATE OR REPLACE TEMP TABLE rebuilt_openings AS
SELECT s.trace_id, coalesce(s.tool_args, s.attributes) AS text
FROM spans s
JOIN (
    SELECT w.trace_id, arg_min(b.span_id, b.rowid) AS span_id
    FROM wanted w
    SEMI JOIN (FROM temp.rebuilt_tasks WHERE text IS NULL) u ON u.trajectory_id = w.trace_id
    JOIN temp.rebuilt_spans b ON b.trace = w.trace
    GROUP BY w.trace_id
) f ON f.trace_id = s.trace_id AND f.span_id = s.span_id
WHERE {openings_near}
