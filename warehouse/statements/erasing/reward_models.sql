list_has_any(coalesce(lineage, []), (SELECT list(trace_id) FROM temp.erased_traces))
