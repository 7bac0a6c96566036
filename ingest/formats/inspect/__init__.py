"""Logs of Inspect AI: `.eval` archives and JSON."""
