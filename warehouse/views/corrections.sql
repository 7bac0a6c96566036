-- What people said the output should have been: the latest correction of each target.
SELECT
    target_kind, target_id,
    CASE target_kind WHEN 'trajectory' THEN target_id WHEN 'step' THEN regexp_replace(target_id, '/[0-9]+$', '') END
        AS trajectory_id,
    CASE target_kind WHEN 'step' THEN CAST(regexp_extract(target_id, '/([0-9]+)$', 1) AS INTEGER) END AS step,
    label AS correction,
    source, propensity,
    make_timestamp_ns("at") AS corrected_at,
    score_id
FROM scores
WHERE name = 'correction' AND label IS NOT NULL
QUALIFY row_number() OVER (PARTITION BY target_kind, target_id ORDER BY "at" DESC NULLS LAST, score_id) = 1
