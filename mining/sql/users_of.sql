-- Who the episodes asked for (`asked_users`) belong to, where the logs say so.
select trajectory_id, user_key from trajectories
where user_key is not null and trajectory_id in (select trajectory_id from asked_users)
