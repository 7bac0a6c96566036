-- The places of calls without a call site, oldest first, from behind a place on; `refs` is how many messages each was
-- sent.
select coalesce(start_ns, 9223372036854775807) as start_ns, trajectory_id, step,
    coalesce(len(system_ids), 0) + coalesce(len(input_ids), 0) as refs
from transitions
where site_id is null
    and ($start_ns is null or coalesce(start_ns, 9223372036854775807) > $start_ns
        or (coalesce(start_ns, 9223372036854775807) = $start_ns and (trajectory_id, step) > ($trajectory_id, $step)))
order by start_ns, trajectory_id, step
limit $most
