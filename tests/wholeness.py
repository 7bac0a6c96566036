"""The query that finds nothing where a reader sees whole batches only."""

HALF = """
    SELECT 'trace without trajectory', trace_id
    FROM (SELECT DISTINCT trace_id FROM spans) s
    FULL JOIN trajectories t ON t.trajectory_id = s.trace_id
    WHERE s.trace_id IS NULL OR t.task_group IS NULL
    UNION ALL
    SELECT 'account', source_uri
    FROM (FROM ingest_log UNION ALL BY NAME FROM ingest_progress)
    WHERE n_items IS DISTINCT FROM n_spans + n_merged + n_duplicates + n_scores + n_quarantined
    UNION ALL
    SELECT 'span without message', span_id
    FROM (SELECT span_id, unnest(input_ids) AS id FROM spans)
    WHERE id NOT IN (SELECT message_id FROM messages)
"""
"""What a reader would see of half a batch; one statement, so one snapshot."""
