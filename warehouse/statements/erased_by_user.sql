-- Traces in which the user takes part, and traces of the user's own sessions that name nobody.
CREATE OR REPLACE TEMP TABLE erased_traces AS
WITH told AS (
    SELECT trace_id, session_id, user_key FROM spans
    UNION ALL
    SELECT trace_id, session_id, user_key FROM span_parts
),
named AS (
    SELECT DISTINCT trace_id FROM told WHERE user_key = $subject
),
own AS (
    SELECT session_id FROM told SEMI JOIN named USING (trace_id) WHERE session_id IS NOT NULL
    EXCEPT
    SELECT session_id FROM told WHERE user_key <> $subject
)
SELECT trace_id FROM named
UNION
SELECT trace_id
FROM told
GROUP BY trace_id
HAVING count(user_key) = 0 AND bool_or(session_id IN (SELECT session_id FROM own))
