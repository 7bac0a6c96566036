-- The spans of the wanted traces, as far as their places and sums need them, in their order: `rowid` tells them apart and
-- says which comes first. What is wide (messages, token ids, attributes) stays in the lake until the calls are known.
CREATE OR REPLACE TEMP TABLE rebuilt_spans AS
SELECT
    w.trace,
    s.span_id, s.parent_span_id, s.seq, s.kind, s.start_ns, s.end_ns, s.day, s.status, s.flags,
    s.session_id, s.user_key, s.service, s.agent_name, s.agent_version, s.source_format, s.task_key,
    s.response_id, s.tokens_in, s.tokens_out, s.cost_usd,
    CASE WHEN s.response_id IS NOT NULL AND len(s.input_ids) > 0 THEN hash(s.input_ids) END AS asked,
    CASE WHEN s.response_id IS NOT NULL AND len(s.output_ids) > 0 THEN hash(s.output_ids) END AS answered,
    s.output_token_ids IS NULL AS no_tokens,
    -- Canned turns are no calls, copied ones were made and paid for elsewhere, and a wrapper's call is counted below it.
    CASE
        WHEN s.kind IS DISTINCT FROM 'llm' THEN false
        WHEN s.flags IS NULL THEN true
        ELSE NOT list_has_any(s.flags, ['wrapper', 'synthetic', 'copied'])
    END AS said,
    -- Most logs know nothing of attempts: few attributes are parsed.
    CASE WHEN s.session_id IS NOT NULL AND contains(s.attributes, '"agentlightning.attempt_id"') THEN coalesce(
        s.attributes ->> '$."agentlightning.attempt_id"', s.attributes ->> '$.resource."agentlightning.attempt_id"'
    ) END AS attempt_id
FROM spans s
JOIN wanted w USING (trace_id)
WHERE {near}
ORDER BY w.trace, s.start_ns NULLS LAST, s.seq NULLS LAST, s.span_id
