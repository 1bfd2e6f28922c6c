"""Published architectures as plain modules, and readers of their authors' checkpoints."""
