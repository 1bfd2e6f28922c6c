"""What everything else stands on: config, registry, artifacts, fingerprints, errors, console."""
