regexp_replace(case_id, '/[0-9]+$', '') IN (SELECT trace_id FROM temp.erased_traces)
