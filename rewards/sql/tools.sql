-- The share of tool calls of a trajectory that went well; 0 where the last one failed. Who makes many episodes weighs
-- less in each.
with calls as (
    select trace_id, coalesce(status = 'error' or error_type is not null, false) as failed,
        row_number() over (partition by trace_id order by start_ns desc nulls last, seq desc nulls last, span_id desc) as back
    from spans
    where kind = 'tool'
),
shares as (
    select trace_id as target_id,
        case when bool_or(failed and back = 1) then 0.0 else 1 - avg(failed::integer) end as value,
        count(*) as tool_calls, sum(failed::integer)::bigint as failed
    from calls
    group by trace_id
),
named as (
    select s.*, coalesce(r.user_key, 'session ' || r.session_id, '') as voter
    from shares s left join trajectories r on r.trajectory_id = s.target_id
),
-- As in feedback.sql: in powers of two, and only how users compare matters.
weighed as (
    select voter, case when $user_cap = 0 then 1 else least(1, least($user_cap, sqrt(n)) / n) end as influence
    from (select voter, pow(2, ceil(log2(count(*)))) as n from named group by voter)
),
found as (
    select n.target_id, n.value, w.influence / max(w.influence) over () as confidence,
        case
            when w.influence < max(w.influence) over ()
            then to_json({
                'tool_calls': tool_calls, 'failed': failed,
                'influence': round(w.influence / max(w.influence) over (), 4)
            })::varchar
            else to_json({'tool_calls': tool_calls, 'failed': failed})::varchar
        end as evidence
    from named n join weighed w using (voter)
)
select target_id, value, confidence, evidence
from found f
where not exists (
    select 1 from scores s
    where s.target_kind = 'trajectory' and s.target_id = f.target_id and s.name = $name and s.version = $version
        and s.evidence = f.evidence
)
order by target_id
