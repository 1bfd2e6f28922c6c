"""Prepared data: official formats in, Arrow tables on disk, pictures and batches out."""
