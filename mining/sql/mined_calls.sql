-- Calls without a call site, and for every version of a site of the same agents its latest calls, to compare with;
-- oldest first, so that `rowid` is their place.
create or replace temp table mined_calls as
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
calls as (from open_calls union all by name from sampled)
select c.trajectory_id, c.step, c.agent_name, c.tool_definitions_id, c.model, c.start_ns, c.site_version,
    list_concat(coalesce(c.system_ids, []), coalesce(c.input_ids, [])) as ids,
    coalesce(list_contains(s.flags, 'reward_leak'), false) as leak,
    coalesce(list_contains(s.flags, 'lossy'), false) as lossy,
    s.prompt_variables
from calls c
left join spans s on s.trace_id = c.trajectory_id and s.span_id = c.span_id
order by c.start_ns nulls last, c.trajectory_id, c.step
