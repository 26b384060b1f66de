"""Batch buckets: the batch sizes that engines prepare for."""


def batch_buckets(max_batch_size: int) -> list[int]:
    """Return the powers of two up to the largest batch, and that one, rising."""
    powers = {1 << power for power in range(max_batch_size.bit_length())}
    return sorted({size for size in powers if size < max_batch_size} | {max_batch_size})
