-- One row per real model call, in the order of the calls. A site stays with the call while its prompt is the same.
CREATE OR REPLACE TEMP TABLE rebuilt_transitions AS
WITH calls AS (
    SELECT *, coalesce(flags, []) AS its FROM temp.rebuilt_spans WHERE is_call
),
-- A model must not learn to say pseudonyms.
redacted AS (
    SELECT DISTINCT o.trace_id, o.span_id
    FROM (
        SELECT trace_id, span_id, unnest(output_ids) AS message_id FROM calls WHERE list_contains(its, 'redacted')
    ) o
    JOIN messages m USING (message_id)
    WHERE regexp_matches(m.parts, '{pseudonym}')
),
-- A call that no agent can be named for is the trace's only agent's; where there are several, nobody knows.
alone AS (
    SELECT trace_id, min(agent_name) AS agent_name
    FROM temp.rebuilt_spans
    GROUP BY trace_id
    HAVING count(DISTINCT agent_name) = 1
),
judged AS (
    SELECT
        c.*,
        CASE
            WHEN list_contains(its, 'reward_leak') THEN 'reward_leak'
            WHEN judging THEN 'judge'
            WHEN status = 'error' THEN 'error'
            WHEN list_contains(its, 'partial') THEN 'partial'
            WHEN list_contains(its, 'unanswered') THEN 'unanswered'
            WHEN list_contains(its, 'external') THEN 'external'
            WHEN coalesce(len(output_ids), 0) = 0 THEN 'no_output'
            WHEN list_contains(its, 'truncated') THEN 'truncated'
            WHEN list_contains(its, 'history_external') THEN 'history_external'
            WHEN list_contains(its, 'cache_hit') THEN 'cache_hit'
            WHEN list_contains(its, 'weight_0') THEN 'weight_0'
            WHEN list_contains(its, 'branch') THEN 'branch'
            WHEN r.span_id IS NOT NULL THEN 'redacted'
            WHEN a.superseded THEN 'superseded'
        END AS reason
    FROM calls c
    LEFT JOIN redacted r USING (trace_id, span_id)
    LEFT JOIN temp.rebuilt_attempts a USING (trace_id)
)
SELECT
    j.trace_id AS trajectory_id,
    CAST(row_number() OVER (PARTITION BY j.trace_id ORDER BY j.nth) - 1 AS INTEGER) AS step,
    j.span_id,
    old.site_id,
    old.site_version,
    coalesce(j.called_by, o.agent_name) AS agent_name,
    j.system_ids,
    j.input_ids,
    j.output_ids,
    j.tool_definitions_id,
    coalesce(j.model, j.model_requested) AS model,
    j.params,
    j.finish_reasons[1] AS finish_reason,
    j.input_token_ids,
    j.output_token_ids,
    j.output_logprobs,
    j.reason IS NULL AS trainable,
    j.reason AS untrainable_reason,
    j.day,
    j.start_ns,
    j.parent_span_id,
    j.seq,
    j.session_id,
    j.user_key,
    j.end_ns,
    j.status,
    j.error_type,
    j.error_message,
    j.service,
    j.agent_version,
    j.provider,
    j.tokens_in,
    j.tokens_cache_read,
    j.tokens_cache_write,
    j.tokens_out,
    j.tokens_reasoning,
    j.cost_usd,
    j.prompt_name,
    j.prompt_version,
    j.source_format,
    j.flags
FROM judged j
LEFT JOIN alone o ON o.trace_id = j.trace_id
LEFT JOIN (SELECT * FROM transitions SEMI JOIN wanted ON transitions.trajectory_id = wanted.trace_id) old
    ON old.trajectory_id = j.trace_id
   AND old.span_id = j.span_id
   AND old.system_ids IS NOT DISTINCT FROM j.system_ids
   AND old.input_ids IS NOT DISTINCT FROM j.input_ids
   AND old.tool_definitions_id IS NOT DISTINCT FROM j.tool_definitions_id
