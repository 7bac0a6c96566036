json_extract_string(completion, '$.text') IN (SELECT output FROM temp.erased_outputs)
-- What judges answered quotes the episodes that they were shown: records.ChatRequest.about.
OR list_has_any(
    string_split(split_part(replay_key, '/', 2), '+'), (SELECT list(md5(trace_id)) FROM temp.erased_traces)
)
OR split_part(replay_key, '/', 2) = 'probe'
