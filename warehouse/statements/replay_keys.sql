SELECT md5_number_lower(replay_key) AS mark FROM replays LIMIT $most
