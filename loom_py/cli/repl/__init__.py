"""Talking with an agent: what ``loom chat`` shows and understands."""
