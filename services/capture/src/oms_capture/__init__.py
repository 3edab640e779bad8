"""Capture: takes orders from channels and leads each through its life."""
