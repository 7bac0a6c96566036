-- One row per night: when it ran, how its stages ended, and the snapshot of the lake that holds what it learned from.
SELECT
    night_id,
    make_timestamp_ns(min(started_ns)) AS started_at,
    make_timestamp_ns(max(ended_ns)) AS ended_at,
    CASE WHEN bool_or(status = 'failed') THEN 'failed' ELSE 'ok' END AS status,
    list(stage ORDER BY started_ns, stage) AS stages,
    -- What both branches learned from was frozen when they began; a night without them read what its last stage read.
    coalesce(min(snapshot_id) FILTER (stage IN ('optimize', 'train', 'gate')), max(snapshot_id)) AS snapshot_id
FROM runs
GROUP BY night_id
