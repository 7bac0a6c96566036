-- Traces that have to be made anew because attempts at the same rollout come: which attempt counts is seen from all.
SELECT DISTINCT t.trajectory_id
FROM trajectories t
JOIN (
    SELECT DISTINCT session_id
    FROM (SELECT * FROM spans WHERE {near}) s
    SEMI JOIN wanted USING (trace_id)
    WHERE session_id IS NOT NULL AND contains(attributes, '"agentlightning.attempt_id"')
) s USING (session_id)
WHERE list_contains(t.flags, 'attempt')
