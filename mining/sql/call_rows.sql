-- The mined calls, in order, without the ids of what they were sent.
select c.trajectory_id, c.step, c.agent_name, c.tool_definitions_id, c.model, c.start_ns, c.site_version, c.leak,
    c.lossy, len(c.ids) as refs, v.row is not null as has_variables
from temp.mined_calls c
left join temp.mined_variables v on v.row = c.rowid
order by c.rowid
