"""Exports of Langfuse: UI and API documents, and the tables of its blob storage export."""
