"""The same container and the same search, on Vertex AI: rehearsed here, submitted, followed, and brought back."""
