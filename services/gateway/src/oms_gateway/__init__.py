"""The door: the only HTTP edge for people and programs outside."""
