"""Sessions and what they need: executables, threads, state, cache, checkpoints."""
