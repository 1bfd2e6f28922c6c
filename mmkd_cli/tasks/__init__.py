"""What `generate --task` names (items in, texts out in an official layout), and what `finetune --task` names."""
