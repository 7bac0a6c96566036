-- What the hashes of tools stand for.
select distinct hash(e.agent_no, 'llm', coalesce(t.site_id, '')) as tool, e.agent_no, 'llm' as kind,
    coalesce(t.site_id, '') as name
from transitions t
join mined_episodes e using (trajectory_id)
where t.untrainable_reason is distinct from 'judge'
union all
select distinct hash(e.agent_no, s.kind, coalesce(s.tool_name, s.name, '')), e.agent_no, s.kind,
    coalesce(s.tool_name, s.name, '')
from spans s
join mined_episodes e on e.trajectory_id = s.trace_id
where s.kind in ('tool', 'retriever')
