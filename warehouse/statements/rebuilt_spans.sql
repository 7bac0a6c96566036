-- The spans as far as their places and sums need them, in their order: `rowid` tells them apart and says which comes first.
-- `place` is their row of `rebuilt_read`, where what is wide (messages, token ids) stays until the calls are known.
CREATE OR REPLACE TEMP TABLE rebuilt_spans AS
SELECT
    trace, rowid AS place,
    span_id, parent_span_id, seq, kind, start_ns, end_ns, day, status, flags,
    session_id, user_key, service, agent_name, agent_version, source_format, task_key,
    response_id, tokens_in, tokens_out, cost_usd, attempt_id,
    CASE WHEN response_id IS NOT NULL AND len(input_ids) > 0 THEN hash(input_ids) END AS asked,
    CASE WHEN response_id IS NOT NULL AND len(output_ids) > 0 THEN hash(output_ids) END AS answered,
    output_token_ids IS NULL AS no_tokens,
    -- Canned turns are no calls, copied ones were made and paid for elsewhere, and a wrapper's call is counted below it.
    CASE
        WHEN kind IS DISTINCT FROM 'llm' THEN false
        WHEN flags IS NULL THEN true
        ELSE NOT list_has_any(flags, ['wrapper', 'synthetic', 'copied'])
    END AS said
FROM temp.rebuilt_read
ORDER BY trace, start_ns NULLS LAST, seq NULLS LAST, span_id
