"""What each stage of a chain does, start to end; callable from Python."""
