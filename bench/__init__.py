"""Events per CPU-second of each path. Run from the root of the project: python -m bench."""
