-- Confirmed findings about one call site, or about its agent as a whole.
select finding_id, feedback, exemplars, n_users
from findings
where status = 'confirmed' and feedback is not null and coverage > 0
    and (site_id = $site_id or (site_id is null and agent_name is not distinct from $agent))
order by cost_usd_day desc nulls last, confirmed_q nulls last, finding_id
