"""The HTTP API: one router per noun, its request and response shapes beside it."""
