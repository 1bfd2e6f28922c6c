"""Frozen models and the signals they give: one `core.contracts.Teacher` a module."""
