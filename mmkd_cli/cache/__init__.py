"""Teacher signals on disk: written once in shards, read at memory speed."""
