-- Task groups that may be alike one of `temp.fresh_signatures`: of those that share a band of the signature with it, the
-- oldest $shown by band, for no more are looked at. Bands (minhash.BANDS: 85 of three, from 256 hashes) are looked up
-- here so that a batch holds what it may join, not all that the lake knows.
with fresh as (
    select distinct unnest(list_transform(
        range(1, 255, 3), lambda b: hash(b, signature[b], signature[b + 1], signature[b + 2])
    )) as band
    from temp.fresh_signatures
),
known as (
    select first_seen, digest, unnest(list_transform(
        range(1, 255, 3), lambda b: hash(b, signature[b], signature[b + 1], signature[b + 2])
    )) as band
    from task_groups
    where len(signature) = 256
),
oldest as (
    select min({'first_seen': first_seen, 'digest': digest}, $shown) as ones
    from known semi join fresh using (band)
    group by band
)
select g.task_group, g.pool, g.digest, g.signature, g.first_seen
from task_groups g
semi join (select distinct unnest(ones).digest as digest from oldest) k using (digest)
order by g.first_seen, g.digest
