-- Each version with its most frequent parameters, the current version of a site first. Current is what was called
-- last; a version of a handful of calls (an odd shape) is not current beside one that carries the traffic.
with logged_params as (
    select site_id, site_version, params, count(*) as n
    from transitions
    where site_id is not null and params is not null
    group by all
),
usual as (
    select site_id, site_version, arg_max(params, (n, params)) as params
    from logged_params
    group by all
),
shares as (
    select *, n_calls >= least(20, 0.05 * sum(n_calls) over (partition by site_id)) as carries
    from sites
    where ($site_id is null or site_id = $site_id) and ($version is null or site_version = $version)
)
select s.site_id, s.site_version, s.agent_name, s.model, s.template, s.unbound, s.flags, s.n_calls, u.params
from shares s left join usual u using (site_id, site_version)
qualify $version is not null or row_number() over (
    partition by s.site_id
    order by s.carries desc, s.last_ns desc nulls last, s.recovered_at desc, s.n_calls desc, s.site_version
) = 1
order by s.n_calls desc, s.site_id
