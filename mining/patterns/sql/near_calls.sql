-- Every tool call of the episodes asked for, in the order of steps.sql, without what nearly identical calls differ in.
select hash(coalesce(s.tool_name, s.name), nearly(s.tool_args)) as near
from spans s
join mined_episodes e on e.trajectory_id = s.trace_id
where s.kind in ('tool', 'retriever') and e.u in (select u from asked)
order by e.u, s.start_ns nulls last, s.seq nulls last, s.span_id
