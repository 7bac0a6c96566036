-- One row per real model call without what was said in it: `llm_calls` for those who count, as fast as a table.
SELECT
    trajectory_id, step, span_id, site_id, site_version, day,
    make_timestamp_ns(start_ns) AS started_at,
    (end_ns - start_ns) / 1e6 AS latency_ms,
    session_id, user_key, service, agent_name, agent_version, provider, model, params,
    status, error_type, error_message, finish_reason,
    tokens_in, tokens_cache_read, tokens_cache_write, tokens_out, tokens_reasoning, cost_usd,
    prompt_name, prompt_version, trainable, untrainable_reason, source_format, flags
FROM transitions
