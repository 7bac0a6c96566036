-- Task groups with a signature of $size hashes; those of another time's size are compared with nothing.
select task_group, pool, digest, signature, first_seen
from task_groups
where len(signature) = $size
