-- What is counted of an agent's episodes counts the erased, too: the next night counts anew. (Before the trajectories.)
coalesce(agent_name, '') IN (
    SELECT coalesce(r.agent_name, '') FROM trajectories r JOIN temp.erased_traces e ON e.trace_id = r.trajectory_id
)
OR coalesce(regexp_matches(array_to_string(acts, ' '), $pattern), false)
