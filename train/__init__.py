"""Logged transitions to better weights: datums, trainers in a process of their own, and a server for small models."""
