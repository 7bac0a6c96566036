-- Ids of episodes by their places.
select u, trajectory_id from mined_episodes where u in (select u from asked)
