-- Which wanted traces are attempts at one rollout (their session), and which of those a later attempt has replaced.
CREATE OR REPLACE TEMP TABLE rebuilt_attempts AS
WITH told AS (
    SELECT
        trace_id, session_id, nth, start_ns,
        coalesce(
            attributes ->> '$."agentlightning.attempt_id"', attributes ->> '$.resource."agentlightning.attempt_id"'
        ) AS attempt_id
    FROM temp.rebuilt_spans
    WHERE session_id IS NOT NULL AND contains(attributes, '"agentlightning.attempt_id"')
),
traces AS (
    SELECT
        trace_id,
        arg_min(session_id, nth) AS session_id,
        arg_min(attempt_id, nth) AS attempt_id,
        min(start_ns) AS start_ns
    FROM told
    WHERE attempt_id IS NOT NULL
    GROUP BY trace_id
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
SELECT t.trace_id, a.attempt, a.attempt < a.n_attempts AS superseded
FROM traces t
JOIN attempts a USING (session_id, attempt_id)
