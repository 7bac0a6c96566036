-- The spans of the wanted traces, with all that is made of them, read once.
CREATE OR REPLACE TEMP TABLE rebuilt_read AS
SELECT
    w.trace,
    -- Most logs know nothing of attempts: few attributes are parsed.
    CASE WHEN s.session_id IS NOT NULL AND contains(s.attributes, '"agentlightning.attempt_id"') THEN coalesce(
        s.attributes ->> '$."agentlightning.attempt_id"', s.attributes ->> '$.resource."agentlightning.attempt_id"'
    ) END AS attempt_id,
    {read}
FROM spans s
JOIN wanted w USING (trace_id)
WHERE {near}
