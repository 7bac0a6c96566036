-- The call site that the episodes asked for call most.
select site_id
from transitions
where site_id is not null and trajectory_id in (select trajectory_id from asked)
group by site_id
order by count(*) desc, site_id
limit 1
