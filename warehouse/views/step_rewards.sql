-- Rewards that came with the log and judgements of single calls, at the steps that they are for. `how`: `linked` (it names
-- the call) or `after` (it was given when this call was the last of those that had ended: the reward "of the step
-- before"). sibling_step is the last such call with the reward's own parent. The trajectory's reward stays in `rewards`.
WITH steps AS (
    SELECT trajectory_id, step, span_id, parent_span_id, end_ns
    FROM transitions
    -- A judge's own call is nothing that is rewarded.
    WHERE untrainable_reason IS DISTINCT FROM 'judge'
),
linked AS (
    SELECT p.trajectory_id, p.step, c.score_id
    FROM scores c
    JOIN steps p ON p.span_id = c.target_id
    WHERE c.target_kind = 'span'
    UNION ALL
    SELECT p.trajectory_id, p.step, c.score_id
    FROM scores c
    JOIN steps p
        ON p.trajectory_id = regexp_replace(c.target_id, '/[0-9]+$', '')
       AND p.step = TRY_CAST(regexp_extract(c.target_id, '/([0-9]+)$', 1) AS INTEGER)
    WHERE c.target_kind = 'step'
),
given AS (
    SELECT
        c.target_id AS trajectory_id, c.score_id, r.parent_span_id,
        coalesce(r.start_ns, c."at") AS given_ns
    FROM scores c
    JOIN spans r
        ON r.trace_id = c.target_id AND r.kind = 'evaluator' AND r.span_id = (TRY_CAST(c.evidence AS JSON) ->> '$.span_id')
    WHERE c.target_kind = 'trajectory' AND c.source = 'env' AND coalesce(r.start_ns, c."at") IS NOT NULL
),
run AS (
    SELECT trajectory_id, parent_span_id, end_ns AS ns, 0 AS turn, step, NULL AS score_id FROM steps
    WHERE end_ns IS NOT NULL
    UNION ALL
    SELECT trajectory_id, parent_span_id, given_ns, 1, NULL, score_id FROM given
),
-- Of calls that ran side by side, the one that began last.
placed AS (
    SELECT
        trajectory_id, score_id,
        max(step) OVER (PARTITION BY trajectory_id ORDER BY ns, turn ROWS UNBOUNDED PRECEDING) AS step,
        max(step) OVER (PARTITION BY trajectory_id, parent_span_id ORDER BY ns, turn ROWS UNBOUNDED PRECEDING)
            AS sibling_step
    FROM run
),
reached AS (
    SELECT trajectory_id, step, NULL AS sibling_step, score_id, 'linked' AS how FROM linked
    UNION ALL
    SELECT trajectory_id, step, sibling_step, score_id, 'after' FROM placed WHERE score_id IS NOT NULL AND step IS NOT NULL
)
SELECT
    r.trajectory_id, r.step, r.sibling_step, r.how,
    c.name, c.value, c.label, c.source, c.version, c.confidence, c.propensity,
    -- Of a reward of several dimensions, the one that its giver named first.
    coalesce(TRY_CAST((TRY_CAST(c.evidence AS JSON) ->> '$.primary') AS BOOLEAN), true) AS main,
    make_timestamp_ns(c."at") AS judged_at,
    r.score_id
FROM reached r
JOIN scores c USING (score_id)
WHERE c.value IS NOT NULL OR c.label IS NOT NULL
