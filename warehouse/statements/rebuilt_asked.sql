-- The messages that have to be looked at: prompts of the first calls of trajectories without a task group, for their
-- tasks; answers in which something was redacted, for pseudonyms.
CREATE OR REPLACE TEMP TABLE rebuilt_asked AS
SELECT message_id, bool_or(answers) AS answers
FROM (
    SELECT unnest(s.input_ids) AS message_id, false AS answers
    FROM temp.rebuilt_read s
    JOIN (FROM temp.rebuilt_steps WHERE step = 0) c ON c.place = s.rowid
    SEMI JOIN (FROM temp.rebuilt_trajectories WHERE task_group IS NULL) u ON u.trajectory_id = s.trace_id
    UNION ALL
    SELECT unnest(s.output_ids), true
    FROM temp.rebuilt_read s
    JOIN (FROM temp.rebuilt_steps WHERE redacted) c ON c.place = s.rowid
)
GROUP BY message_id
