"""Outputs and event lists of OpenHands V0."""
