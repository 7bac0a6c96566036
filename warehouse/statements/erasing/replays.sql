replay_key IN (
    SELECT replay_key FROM replay_sources WHERE trace IN (SELECT md5(trace_id) FROM temp.erased_traces)
)
-- What judges answered quotes the episodes that they were shown: records.ChatRequest.about.
OR list_has_any(
    string_split(split_part(replay_key, '/', 2), '+'), (SELECT list(md5(trace_id)) FROM temp.erased_traces)
)
OR split_part(replay_key, '/', 2) = 'probe'
-- Nobody knows whose values an answer of an earlier version shows.
OR NOT contains(replay_key, '/')
    AND replay_key NOT IN (SELECT replay_key FROM replay_sources)
    AND EXISTS (FROM temp.erased_traces)
