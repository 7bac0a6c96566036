-- What the hashes of shapes and observations that occur often stand for. Every so many steps are looked at: what occurs
-- often is among them.
with looked_at as (
    select e.agent_no, coalesce(s.tool_name, s.name, '') as name, s.tool_args,
        case when went_wrong(s.status, s.error_type) then coalesce(s.error_message, s.tool_result, s.error_type)
            else s.tool_result end as said
    from spans s
    join mined_episodes e on e.trajectory_id = s.trace_id
    where s.kind in ('tool', 'retriever') and hash(s.trace_id, s.span_id) % $every = 0
),
named as (
    select 'shape' as what, agent_no, name, shape(tool_args) as text from looked_at where tool_args is not null
    union all
    select 'observation', agent_no, name, observation(said) from looked_at where said is not null
)
select what, hash(agent_no, name, text) as hashed, agent_no, name, text
from named
where hash(agent_no, name, text) in (select hashed from frequent)
group by all
