-- What votes.sql and combined.sql begin with: the latest judgements of trajectories, each with the tier that it is of.
with own as (
    -- A row of the feedback model names its evidence; a log may have scores of that name, too.
    select score_id, target_id, name, value, source, confidence, propensity, "at",
        name = 'feedback' and coalesce(evidence, '') like '{"score_ids":%' as is_feedback,
        case when name = 'feedback' then evidence end as evidence,
        -- Models of a log that nobody names a family of are taken for one: they may be the same.
        coalesce(family, case source when 'human' then 'people' when 'user' then 'people' when 'env' then 'env'
            when 'llm' then 'llm' else name end) as family
    from scores
    where target_kind = 'trajectory' and name not in ($name, $low_name)
        and not list_contains($sealed, name)
        and not (coalesce(source, '') in ('code', 'model', 'llm')
            and list_contains($distrusted, name || '@' || coalesce(version, '')))
),
latest as materialized (
    select score_id, target_id, name, value, source, confidence, propensity, "at", is_feedback, evidence, family,
        case
            when is_feedback and source in ('human', 'user') then 'human'
            when source = 'env' and (is_feedback or list_contains($env_names, name)) then 'env'
            when source in ('code', 'model', 'llm', 'user') and name <> 'feedback'
                and (name = $veto or list_contains($weak, split_part(family, ':', 1))) then 'weak'
            when source in ('code', 'model', 'llm') and name <> 'feedback' then 'verifier'
        end as tier
    from own
    qualify row_number() over (
        -- Of what people said there is one newest row: who voted may have been joined by a reviewer since.
        partition by target_id, name, is_feedback, case when is_feedback and source = 'user' then 'human' else source end
        order by "at" desc nulls last, score_id
    ) = 1
),
weighted as (
    select *,
        -- Whoever is not sure counts for less.
        case when list_contains($weighted, name) then $weights[list_position($weighted, name)] else 1.0 end
            * greatest(coalesce(confidence, case when source in ('code', 'model', 'llm') then 0.9 else 1.0 end), 0.001)
            as weight
    from latest
    where tier is not null and value between 0 and 1
),
-- The environment's own row and feedback's copy of it are one piece of evidence.
once as (
    select * from weighted where tier <> 'env' and weight > 0
    union all
    select * from weighted
    where tier = 'env' and weight > 0
    qualify row_number() over (partition by target_id order by is_feedback, "at" desc nulls last, score_id) = 1
),
vetoes as (
    select target_id, min(score_id) as score_id from latest where name = $veto and value = 0 group by target_id
),
tiers as (
    select target_id, tier,
        case when tier = 'verifier' and any_value(v.score_id) is not null then 0.0
            when min(value) = max(value) then min(value)  -- to the last digit
            else sum(value * weight) / sum(weight) end as value,
        avg(coalesce(confidence, case tier when 'verifier' then 0.9 else 1.0 end)) * (1 - (max(value) - min(value)) / 2) as confidence,
        min(propensity) as propensity,
        max(case when is_feedback then coalesce(try_cast(try_cast(evidence as json) ->> '$.influence' as double), 1) else 1 end)
            as influence,
        list_sort(list(o.score_id)) || case when tier = 'verifier' and any_value(v.score_id) is not null
            then [any_value(v.score_id)] else [] end as score_ids,
        tier = 'verifier' and any_value(v.score_id) is not null as vetoed
    from once o left join vetoes v using (target_id)
    where tier <> 'weak'
    group by target_id, tier
)
