-- Traces that have to be made anew because attempts at the same rollout come: which attempt counts is seen from all.
SELECT DISTINCT t.trajectory_id
FROM trajectories t
SEMI JOIN temp.rebuilt_attempts s USING (session_id)
WHERE list_contains(t.flags, 'attempt')
