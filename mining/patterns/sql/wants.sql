-- Episodes and the clusters of what their callers want.
select cast(dense_rank() over (order by e.agent_no, c.cluster_id) - 1 as integer) as want_no, e.u, e.agent_no,
    c.cluster_id, coalesce(c.name, '') as name
from mined_episodes e
join cluster_members m on m.trajectory_id = e.trajectory_id and m.kind = 'intent'
join clusters c on c.cluster_id = m.cluster_id
