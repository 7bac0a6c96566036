"""The Agent Trajectory Interchange Format (ATIF) 1.4 to 1.8."""
