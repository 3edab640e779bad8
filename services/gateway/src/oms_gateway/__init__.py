"""The only HTTP edge for people and programs outside."""
