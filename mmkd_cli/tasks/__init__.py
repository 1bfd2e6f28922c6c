"""What `generate --task` names: items in, texts out in an official layout."""
