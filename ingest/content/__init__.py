"""What was said, in every spelling that logs have, as canonical messages and token counts."""
