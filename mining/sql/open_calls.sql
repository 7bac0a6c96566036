-- Calls without a call site, and for every version of a site of the same agents its latest calls, to compare with.
with open_calls as (
    select t.trajectory_id, t.step, t.span_id, coalesce(t.agent_name, r.agent_name) as agent_name, t.system_ids,
        t.input_ids, t.tool_definitions_id, t.model, t.start_ns, t.site_version
    from transitions t left join trajectories r using (trajectory_id)
    where t.site_id is null
),
sampled as (
    select t.trajectory_id, t.step, t.span_id, s.agent_name, t.system_ids, t.input_ids, t.tool_definitions_id, t.model,
        t.start_ns, t.site_version
    from transitions t join sites s using (site_id, site_version)
    where exists (select 1 from open_calls o where o.agent_name is not distinct from s.agent_name)
    qualify row_number() over (
        partition by t.site_id, t.site_version order by t.start_ns desc nulls last, t.trajectory_id, t.step
    ) <= $per_version
),
calls as (from open_calls union all by name from sampled),
span_flags as (
    select s.trace_id, s.span_id, any_value(s.flags) as flags
    from spans s semi join calls c on c.trajectory_id = s.trace_id and c.span_id = s.span_id
    group by all
)
select c.trajectory_id, c.step, c.span_id, c.agent_name, c.tool_definitions_id, c.model, c.start_ns, c.site_version,
    list_concat(coalesce(c.system_ids, []), coalesce(c.input_ids, [])) as ids,
    coalesce(list_contains(f.flags, 'reward_leak'), false) as leak,
    coalesce(list_contains(f.flags, 'lossy'), false) as lossy
from calls c left join span_flags f on f.trace_id = c.trajectory_id and f.span_id = c.span_id
order by c.start_ns nulls last, c.trajectory_id, c.step
