-- Calls without a call site, from behind one place up to another, and for every version of a site of the same agents its
-- latest calls, to compare with; oldest first, so that `rowid` is their place.
create or replace temp table mined_calls as
with open_calls as (
    select t.trajectory_id, t.step, t.span_id, coalesce(t.agent_name, r.agent_name) as agent_name, t.system_ids,
        t.input_ids, t.tool_definitions_id, t.model, t.day, t.start_ns, t.site_version, t.flags
    from (
        from transitions
        where site_id is null
            and ($start_ns is null or coalesce(start_ns, 9223372036854775807) > $start_ns
                or (coalesce(start_ns, 9223372036854775807) = $start_ns
                    and (trajectory_id, step) > ($trajectory_id, $step)))
            and ($last_ns is null or coalesce(start_ns, 9223372036854775807) < $last_ns
                or (coalesce(start_ns, 9223372036854775807) = $last_ns
                    and (trajectory_id, step) <= ($last_trajectory_id, $last_step)))
    ) t
    left join trajectories r using (trajectory_id)
),
near as (
    select site_id, site_version, agent_name
    from sites s
    where exists (select 1 from open_calls o where o.agent_name is not distinct from s.agent_name)
),
-- Which calls are a version's latest, told without putting all that it ever had in order.
newest as (
    select site_id, site_version, list_min(max(start_ns, $per_version)) as since, count(start_ns) as dated
    from transitions
    semi join near using (site_id, site_version)
    group by all
),
sampled as (
    select t.trajectory_id, t.step, t.span_id, s.agent_name, t.system_ids, t.input_ids, t.tool_definitions_id, t.model,
        t.day, t.start_ns, t.site_version, t.flags
    from transitions t
    join near s using (site_id, site_version)
    join newest n using (site_id, site_version)
    where t.start_ns >= n.since or n.dated < $per_version
    qualify row_number() over (
        partition by t.site_id, t.site_version order by t.start_ns desc nulls last, t.trajectory_id, t.step
    ) <= $per_version
),
calls as (from open_calls union all by name from sampled)
select trajectory_id, step, span_id, agent_name, tool_definitions_id, model, day, start_ns, site_version,
    list_concat(coalesce(system_ids, []), coalesce(input_ids, [])) as ids,
    coalesce(list_contains(flags, 'reward_leak'), false) as leak,
    coalesce(list_contains(flags, 'lossy'), false) as lossy
from calls
order by start_ns nulls last, trajectory_id, step
