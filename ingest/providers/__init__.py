"""What model providers' APIs say: requests, answers, streams and batches of OpenAI and Anthropic, as spans."""
