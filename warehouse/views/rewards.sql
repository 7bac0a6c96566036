-- The latest judgement of each name for each trajectory; a session's judgement counts for its episodes unless the
-- episode has its own. Abstentions (NULL) are not here, nor what was withdrawn by one. `combined` is the score that learning uses, where there is one.
WITH reached AS (
    SELECT target_id AS trajectory_id, 0 AS distance, * FROM scores WHERE target_kind = 'trajectory'
    UNION ALL
    SELECT t.trajectory_id, 1 AS distance, s.*
    FROM scores s
    JOIN trajectories t ON t.session_id = s.target_id
    WHERE s.target_kind = 'session'
)
SELECT
    trajectory_id, name, value, label, source, version, confidence, propensity, target_kind,
    make_timestamp_ns("at") AS judged_at,
    name = 'combined' AS combined,
    score_id
FROM reached
WHERE value IS NOT NULL OR label IS NULL
WINDOW newest AS (PARTITION BY trajectory_id, name ORDER BY distance, "at" DESC NULLS LAST, score_id)
QUALIFY value IS NOT NULL
    AND (
        row_number() OVER newest = 1
        -- The session's newest, where the episode's own newest says nothing.
        OR (lag(distance) OVER newest IS DISTINCT FROM distance AND first_value(value) OVER newest IS NULL)
    )
