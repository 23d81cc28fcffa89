"""From units to raw batches in Kafka, by way of bounded memory and, where Kafka is away, a disk spool."""
