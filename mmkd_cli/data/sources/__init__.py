"""Official formats that `prepare-data --source` names, a module each."""
