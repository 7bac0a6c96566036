-- Judged single calls of a site in the learn pool, with the version of the prompt that they were made with.
with judged as (
    select target_id, arg_max_null(value, (coalesce("at", 0), score_id)) as reward
    from scores
    where target_kind = 'trajectory' and name = 'combined_low'
    group by target_id
)
select t.site_version, j.reward, r.task_group
from transitions t
join trajectories r using (trajectory_id)
join judged j on j.target_id = t.trajectory_id
where t.site_id = $site_id and r.pool = 'learn' and r.task_group is not null and r.n_llm_calls = 1
    and t.trainable is not false and j.reward is not null
    and not coalesce(list_contains(r.flags, 'reward_leak'), false)
order by t.site_version, t.trajectory_id
