-- One row per real model call; the lake itself keeps them in order. A site stays with the call while its prompt is the same.
INSERT INTO transitions ({columns})
WITH calls AS (
    SELECT c.step, c.called_by, c.judging, c.superseded, c.engine_id, s.*, coalesce(s.flags, []) AS its
    FROM spans s
    JOIN temp.rebuilt_steps c ON c.trace_id = s.trace_id AND c.span_id = s.span_id
    WHERE s.kind = 'llm' AND {near}
),
-- A model must not learn to say pseudonyms.
redacted AS (
    SELECT DISTINCT o.trace_id, o.span_id
    FROM (
        SELECT s.trace_id, s.span_id, unnest(s.output_ids) AS message_id
        FROM spans s
        JOIN temp.rebuilt_steps c ON c.trace_id = s.trace_id AND c.span_id = s.span_id
        WHERE c.redacted AND {near}
    ) o
    JOIN messages m USING (message_id)
    -- Of both sides, so that only these messages are searched and not all that the lake has.
    WHERE regexp_matches(CASE WHEN o.message_id IS NOT NULL THEN m.parts END, '{pseudonym}')
),
engine AS (
    SELECT c.trace_id, c.span_id, s.input_token_ids, s.output_token_ids, s.output_logprobs
    FROM spans s
    JOIN (FROM temp.rebuilt_steps WHERE engine_id IS NOT NULL) c ON c.trace_id = s.trace_id AND c.engine_id = s.span_id
    WHERE {near}
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
            -- A prompt of system messages alone is one: then `input_ids` is there, and empty.
            WHEN input_ids IS NULL OR len(input_ids) + coalesce(len(system_ids), 0) = 0 THEN 'no_input'
            WHEN list_contains(its, 'cache_hit') THEN 'cache_hit'
            WHEN list_contains(its, 'weight_0') THEN 'weight_0'
            WHEN list_contains(its, 'branch') THEN 'branch'
            WHEN r.span_id IS NOT NULL THEN 'redacted'
            WHEN superseded THEN 'superseded'
        END AS untrainable_reason
    FROM calls c
    LEFT JOIN redacted r ON r.trace_id = c.trace_id AND r.span_id = c.span_id
)
SELECT {values}
FROM judged s
LEFT JOIN engine e ON e.trace_id = s.trace_id AND e.span_id = s.span_id
LEFT JOIN temp.rebuilt_sites old
    ON old.trajectory_id = s.trace_id
   AND old.span_id = s.span_id
   AND old.system_ids IS NOT DISTINCT FROM s.system_ids
   AND old.input_ids IS NOT DISTINCT FROM s.input_ids
   AND old.tool_definitions_id IS NOT DISTINCT FROM s.tool_definitions_id
