"""What touches a model: its tensors, modules, files and memories. Knows nothing of the engine."""
