-- Where in a trajectory the calls of a site come first.
select site_id, min(step) as first_step
from transitions
where site_id is not null
group by site_id
