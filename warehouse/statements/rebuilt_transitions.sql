-- One row per real model call, in the order of the calls. A site stays with the call while its prompt is the same.
CREATE OR REPLACE TEMP TABLE rebuilt_transitions AS
WITH judged AS (
    SELECT
        *,
        CASE
            WHEN coalesce(list_contains(flags, 'reward_leak'), false) THEN 'reward_leak'
            WHEN status = 'error' THEN 'error'
            WHEN coalesce(list_contains(flags, 'partial'), false) THEN 'partial'
            WHEN coalesce(len(output_ids), 0) = 0 THEN 'no_output'
            WHEN coalesce(list_contains(flags, 'truncated'), false) THEN 'truncated'
        END AS reason
    FROM temp.rebuilt_spans
    WHERE is_call
)
SELECT
    j.trace_id AS trajectory_id,
    CAST(row_number() OVER (PARTITION BY j.trace_id ORDER BY j.nth) - 1 AS INTEGER) AS step,
    j.span_id,
    old.site_id,
    old.site_version,
    coalesce(j.agent_name, t.agent_name) AS agent_name,
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
    j.start_ns
FROM judged j
JOIN temp.rebuilt_trajectories t ON t.trajectory_id = j.trace_id
LEFT JOIN (SELECT * FROM transitions SEMI JOIN wanted ON transitions.trajectory_id = wanted.trace_id) old
    ON old.trajectory_id = j.trace_id
   AND old.span_id = j.span_id
   AND old.system_ids IS NOT DISTINCT FROM j.system_ids
   AND old.input_ids IS NOT DISTINCT FROM j.input_ids
   AND old.tool_definitions_id IS NOT DISTINCT FROM j.tool_definitions_id
