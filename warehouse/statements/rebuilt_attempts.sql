-- Which wanted traces are attempts at one rollout (their session), and which of those a later attempt has replaced.
CREATE OR REPLACE TEMP TABLE rebuilt_attempts AS
WITH traces AS (
    SELECT
        trace,
        arg_min(session_id, rowid) AS session_id,
        arg_min(attempt_id, rowid) AS attempt_id,
        min(start_ns) AS start_ns
    FROM temp.rebuilt_spans
    WHERE attempt_id IS NOT NULL
    GROUP BY trace
),
-- An attempt may consist of several traces.
attempts AS (
    SELECT
        session_id, attempt_id,
        row_number() OVER (PARTITION BY session_id ORDER BY min(start_ns) NULLS FIRST, attempt_id) AS attempt,
        count(*) OVER (PARTITION BY session_id) AS n_attempts
    FROM traces
    GROUP BY session_id, attempt_id
)
SELECT t.trace, t.session_id, a.attempt < a.n_attempts AS superseded
FROM traces t
JOIN attempts a USING (session_id, attempt_id)
