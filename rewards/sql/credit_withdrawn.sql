-- Credits of episodes whose judgement was withdrawn since: not known any more.
select c.trajectory_id, c.step
from credits c
where c.method = $method and c.version = $version and c.credit is not null
    and not exists (
        select 1 from (
            select target_id, value from scores
            where target_kind = 'trajectory' and name = 'combined'
            qualify row_number() over (partition by target_id order by "at" desc nulls last, score_id) = 1
        ) s
        where s.target_id = c.trajectory_id and s.value is not null
    )
order by c.trajectory_id, c.step
