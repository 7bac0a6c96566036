target_kind IN ('trajectory', 'step')
    AND regexp_replace(target_id, '/[0-9]+$', '') IN (SELECT trace_id FROM temp.erased_traces)
OR target_kind = 'trajectory' AND target_id IN (SELECT trace_id FROM temp.erased_traces)
OR target_kind IN ('span', 'session')
    AND (target_kind, target_id) IN (SELECT (kind, id) FROM temp.erased_links)
OR user_key = $user_key
