-- One row per real model call; the lake itself keeps them in order.
INSERT INTO transitions ({columns})
WITH judged AS (
    SELECT
        c.id, c.step, c.called_by, s.*,
        CASE
            WHEN list_contains(s.flags, 'reward_leak') THEN 'reward_leak'
            WHEN c.judging THEN 'judge'
            WHEN s.status = 'error' THEN 'error'
            WHEN list_contains(s.flags, 'partial') THEN 'partial'
            WHEN list_contains(s.flags, 'unanswered') THEN 'unanswered'
            WHEN list_contains(s.flags, 'external') THEN 'external'
            WHEN coalesce(len(s.output_ids), 0) = 0 THEN 'no_output'
            WHEN list_contains(s.flags, 'truncated') THEN 'truncated'
            WHEN list_contains(s.flags, 'history_external') THEN 'history_external'
            -- A prompt of system messages alone is one: then `input_ids` is there, and empty.
            WHEN s.input_ids IS NULL OR len(s.input_ids) + coalesce(len(s.system_ids), 0) = 0 THEN 'no_input'
            WHEN list_contains(s.flags, 'cache_hit') THEN 'cache_hit'
            WHEN list_contains(s.flags, 'weight_0') THEN 'weight_0'
            WHEN list_contains(s.flags, 'branch') THEN 'branch'
            WHEN r.id IS NOT NULL THEN 'redacted'
            WHEN c.superseded THEN 'superseded'
        END AS untrainable_reason
    FROM temp.rebuilt_read s
    JOIN temp.rebuilt_steps c ON c.place = s.rowid
    LEFT JOIN temp.rebuilt_redacted r ON r.id = c.id
)
SELECT {values}
FROM judged s
LEFT JOIN temp.rebuilt_engine e ON e.id = s.id
LEFT JOIN temp.rebuilt_sites old ON old.id = s.id
