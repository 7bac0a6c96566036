-- Judgements of the trajectories, their sessions, spans and steps, each with the trajectory that it belongs to.
WITH traces AS (
    SELECT unnest(CAST($ids AS VARCHAR[])) AS trace_id
),
span_ids AS (
    SELECT unnest(CAST($traces AS VARCHAR[])) AS trace_id, unnest(CAST($spans AS VARCHAR[])) AS span_id
)
SELECT s.*, t.trace_id
FROM scores s
JOIN traces t ON s.target_kind = 'trajectory' AND s.target_id = t.trace_id
UNION ALL
SELECT s.*, t.trace_id
FROM scores s
JOIN traces t ON s.target_kind = 'step' AND regexp_replace(s.target_id, '/[0-9]+$', '') = t.trace_id
UNION ALL
SELECT s.*, i.trace_id
FROM scores s
JOIN span_ids i ON s.target_kind = 'span' AND s.target_id = i.span_id
UNION ALL
SELECT s.*, t.trajectory_id AS trace_id
FROM scores s
JOIN trajectories t ON s.target_kind = 'session' AND s.target_id = t.session_id
WHERE t.trajectory_id IN (SELECT trace_id FROM traces)
ORDER BY trace_id, "at" NULLS LAST, score_id
