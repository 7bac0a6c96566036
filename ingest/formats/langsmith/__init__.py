"""Runs of LangSmith: batches of posts and patches, bulk exports, feedback."""
