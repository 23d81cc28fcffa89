"""What the processors say of a raw batch: partial aggregates of what its events match."""
