-- The trainable calls of one site with what is known about them. A trajectory's score may be given to its session; a
-- correction counts for the call it names, else for the calls of the trajectory or session it names (the choice
-- between several is made in Python, which knows the template).
with calls as (
    select t.trajectory_id, t.step, t.span_id, t.site_version, t.system_ids, t.input_ids, t.output_ids, t.start_ns,
        r.session_id, coalesce(r.user_key, r.session_id) as owner, r.task_key, r.task_group, r.pool, r.n_llm_calls as steps
    from transitions t join trajectories r using (trajectory_id)
    where t.site_id = $site_id and t.trainable is not false and r.pool is not null and r.task_group is not null
        and ($pool is null or r.pool = $pool)
        and ($since_ns is null or t.start_ns >= $since_ns)
        and ($allow_leak or not coalesce(list_contains(r.flags, 'reward_leak'), false))
),
judged as (
    select s.target_kind, s.target_id, s.name,
        arg_max_null(s.value, (coalesce(s.at, 0), s.score_id)) as value,
        arg_max_null(s.label, (coalesce(s.at, 0), s.score_id)) as label,
        arg_max_null(s.propensity, (coalesce(s.at, 0), s.score_id)) as propensity
    from scores s
    where s.name in ('combined', 'combined_low', 'reward', 'correction')
    group by all
),
sites_calls as (
    select t.trajectory_id, r.session_id, count(*) as n, max(t.step) as last_step
    from transitions t join trajectories r using (trajectory_id)
    where t.site_id = $site_id
    group by all
),
sessions as (
    select session_id, count(*) as n from sites_calls where session_id is not null group by all
)
select c.*, k.attributes,
    coalesce(combined.value, combined_s.value, reward.value, reward_s.value) as reward,
    -- Of the same judgement as the reward; a plain reward is its own lower bound.
    case
        when combined.value is not null then coalesce(low.value, combined.value)
        when combined_s.value is not null then coalesce(low_s.value, combined_s.value)
        else coalesce(reward.value, reward_s.value)
    end as reward_low,
    case
        when combined.value is not null then combined.propensity
        when combined_s.value is not null then combined_s.propensity
        when reward.value is not null then reward.propensity
        else reward_s.propensity
    end as reward_propensity,
    coalesce(named_step.label, named_span.label) as own_correction,
    coalesce(named_step.propensity, named_span.propensity) as own_propensity,
    coalesce(whole.label, whole_s.label) as shared_correction,
    case when whole.label is not null then whole.propensity else whole_s.propensity end as shared_propensity,
    c.step = sc.last_step as is_last
from calls c
join sites_calls sc using (trajectory_id)
left join sessions n on n.session_id = c.session_id
left join tasks k using (task_key)
left join judged combined on combined.target_kind = 'trajectory' and combined.target_id = c.trajectory_id
    and combined.name = 'combined'
left join judged combined_s on combined_s.target_kind = 'session' and combined_s.target_id = c.session_id
    and combined_s.name = 'combined'
left join judged low on low.target_kind = 'trajectory' and low.target_id = c.trajectory_id
    and low.name = 'combined_low'
left join judged low_s on low_s.target_kind = 'session' and low_s.target_id = c.session_id
    and low_s.name = 'combined_low'
left join judged reward on reward.target_kind = 'trajectory' and reward.target_id = c.trajectory_id
    and reward.name = 'reward'
left join judged reward_s on reward_s.target_kind = 'session' and reward_s.target_id = c.session_id
    and reward_s.name = 'reward'
left join judged named_step on named_step.target_kind = 'step'
    and named_step.target_id = c.trajectory_id || '/' || c.step and named_step.name = 'correction'
left join judged named_span on named_span.target_kind = 'span' and named_span.target_id = c.span_id
    and named_span.name = 'correction'
left join judged whole on whole.target_kind = 'trajectory' and whole.target_id = c.trajectory_id
    and whole.name = 'correction'
left join judged whole_s on whole_s.target_kind = 'session' and whole_s.target_id = c.session_id
    and whole_s.name = 'correction' and n.n = 1
order by c.start_ns nulls last, c.trajectory_id, c.step
