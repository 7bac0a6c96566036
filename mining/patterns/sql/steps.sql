-- Every model and tool call of the episodes in its order; names as hashes, so that millions of steps are integers.
with steps as (
    select e.u, t.start_ns, t.end_ns, t.seq, t.span_id,
        false as is_tool, went_wrong(t.status, t.error_type) as failed,
        hash(e.agent_no, 'llm', coalesce(t.site_id, '')) as tool,
        null::ubigint as call, null::ubigint as shape, null::ubigint as observation,
        coalesce(
            lower(t.finish_reason) in ('length', 'max_tokens', 'max_output_tokens', 'model_length', 'context_length')
            or (t.error_type is not null or t.status = 'error') and regexp_matches(
                coalesce(t.error_type, '') || ' ' || coalesce(t.error_message, ''),
                '(?i)context.{0,12}(length|window)|maximum context|too many tokens|prompt is too long'),
            false) as cut
    from transitions t
    join mined_episodes e using (trajectory_id)
    where t.untrainable_reason is distinct from 'judge'
    union all
    select e.u, s.start_ns, s.end_ns, s.seq, s.span_id,
        true, tool_failed(s.status, s.error_type, s.tool_result),
        hash(e.agent_no, s.kind, coalesce(s.tool_name, s.name, '')),
        hash(coalesce(s.tool_name, s.name), s.tool_args),
        case when s.tool_args is not null
            then hash(e.agent_no, coalesce(s.tool_name, s.name, ''), shape(s.tool_args)) end,
        case when said is not null then hash(e.agent_no, coalesce(s.tool_name, s.name, ''), observation(said)) end,
        false
    from (
        select trace_id, span_id, kind, start_ns, end_ns, seq, status, error_type, tool_name, name, tool_args, tool_result,
            case when went_wrong(status, error_type) then coalesce(error_message, tool_result, error_type)
                else tool_result end as said
        from spans
        where kind in ('tool', 'retriever')
    ) s
    join mined_episodes e on e.trajectory_id = s.trace_id
)
select u, is_tool, failed, cut, tool, call, shape, observation, start_ns, end_ns
from steps
order by u, start_ns nulls last, seq nulls last, span_id
