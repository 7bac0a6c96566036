-- Ids of episodes by their places, with what a finding tells of them.
select u, trajectory_id, user_key, session_id from mined_episodes where u in (select u from asked)
