-- The share of tool calls of a trajectory that went well; 0 where the last one failed.
with calls as (
    select trace_id, coalesce(status = 'error' or error_type is not null, false) as failed,
        row_number() over (partition by trace_id order by start_ns desc nulls last, seq desc nulls last, span_id desc) as back
    from spans
    where kind = 'tool'
),
shares as (
    select trace_id as target_id,
        case when bool_or(failed and back = 1) then 0.0 else 1 - avg(failed::integer) end as value,
        to_json({'tool_calls': count(*), 'failed': sum(failed::integer)::bigint})::varchar as evidence
    from calls
    group by trace_id
)
select target_id, value, evidence
from shares f
where not exists (
    select 1 from scores s
    where s.target_kind = 'trajectory' and s.target_id = f.target_id and s.name = $name and s.version = $version
        and s.evidence = f.evidence
)
order by target_id
