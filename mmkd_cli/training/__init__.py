"""The training loop: any Trainable, from any number of processes, resumed to the last bit."""
