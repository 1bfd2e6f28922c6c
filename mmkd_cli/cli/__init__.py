"""The command line: a file a stage, flags and wiring only."""
