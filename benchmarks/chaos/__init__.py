"""Chaos soak: thousands of tool-calling runs against two failing regions, beside the plain SDK."""
