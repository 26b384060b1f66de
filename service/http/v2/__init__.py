"""Open Inference Protocol v2: its hot route, its bytes, its quiet routes, its statistics."""
