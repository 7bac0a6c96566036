-- After the answers.
replay_key NOT IN (SELECT replay_key FROM replays)
