-- What the label model learns from and judges: a trajectory that any weak judge voted on, one vote a family.
, families as (
    select target_id, family, if(min(value) = max(value), min(value), sum(value * weight) / sum(weight)) as vote, list(score_id) as score_ids,
        bool_and(name = $veto) as veto_only
    from once
    where tier = 'weak'
    group by target_id, family
),
voted as (
    select target_id, list_transform(said, lambda one: one.family) as families,
        list_transform(said, lambda one: one.vote) as votes, list_sort(flatten(score_ids)) as score_ids
    from (
        -- Sorted afterwards: an ordered list costs ten times as much.
        select target_id, list_sort(list({'family': family, 'vote': vote})) as said, list(score_ids) as score_ids
        from families
        group by target_id
        -- That the tools took its calls makes no score by itself.
        having not bool_and(veto_only)
    )
),
truths as (
    select target_id, max(value) filter (tier = 'human') as human, max(propensity) filter (tier = 'human') as propensity,
        max(influence) filter (tier = 'human') as influence,
        max(value) filter (tier = 'env') as env, max(value) filter (tier = 'verifier') as verifier
    from tiers
    where list_contains($precedence, tier)
    group by target_id
)
select v.target_id, v.families, v.votes, v.score_ids, t.human, t.propensity, t.influence, t.env, t.verifier,
    -- Near-duplicates and episodes of one session are one observation; tenths of them are left out in turn.
    (md5_number_lower(coalesce(r.task_group, r.session_id, v.target_id)) % 10)::tinyint as block
from voted v
left join truths t using (target_id)
left join trajectories r on r.trajectory_id = v.target_id
order by v.target_id
