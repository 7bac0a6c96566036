-- How many calls without a call site are behind a place, and how many messages they were sent between them.
select count(*) as calls, coalesce(sum(coalesce(len(system_ids), 0) + coalesce(len(input_ids), 0)), 0) as refs
from transitions
where site_id is null
    and ($start_ns is null or coalesce(start_ns, 9223372036854775807) > $start_ns
        or (coalesce(start_ns, 9223372036854775807) = $start_ns and (trajectory_id, step) > ($trajectory_id, $step)))
