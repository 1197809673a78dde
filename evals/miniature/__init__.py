"""The embedded world: a deterministic procedural 3-D world written in the on-disk layouts of the real data sets."""
