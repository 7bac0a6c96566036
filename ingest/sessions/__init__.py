"""Sessions of coding agents: turns as nodes of a tree, each call with its rebuilt prompt."""
