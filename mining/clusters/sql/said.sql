-- Each episode with a text: which text, and what is known of the episode. `place` is its known cluster's.
select d.text_no, e.pool = 'learn' as learn, e.failed, e.day, m.cluster_id,
    cast(dense_rank() over (order by e.session_id) - 1 as integer) as session, e.u, m.similarity
from mined_texts t
join mined_episodes e using (u)
join mined_distinct d on d.agent = e.agent and d.text = t.text
left join cluster_members m on m.trajectory_id = e.trajectory_id and m.kind = $kind
order by e.u
