-- Members that are none any more: their episode did not fail after all, or says nothing now.
select m.trajectory_id
from cluster_members m
join mined_episodes e using (trajectory_id)
where m.kind = $kind and m.cluster_id is not null and e.u not in (select u from mined_texts)
order by m.trajectory_id
