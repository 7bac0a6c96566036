-- Before layout 5, what a call's span tells of it was read from the span only.
UPDATE transitions
SET
    parent_span_id = s.parent_span_id, seq = s.seq, session_id = s.session_id, user_key = s.user_key,
    end_ns = s.end_ns, status = s.status, error_type = s.error_type, error_message = s.error_message,
    service = s.service, agent_version = s.agent_version, provider = s.provider,
    tokens_in = s.tokens_in, tokens_cache_read = s.tokens_cache_read, tokens_cache_write = s.tokens_cache_write,
    tokens_out = s.tokens_out, tokens_reasoning = s.tokens_reasoning, cost_usd = s.cost_usd,
    prompt_name = s.prompt_name, prompt_version = s.prompt_version, source_format = s.source_format, flags = s.flags
FROM spans s
WHERE s.trace_id = transitions.trajectory_id
  AND s.span_id = transitions.span_id
  AND s.day IS NOT DISTINCT FROM transitions.day
