trajectory_id IN (SELECT trace_id FROM temp.erased_traces)
