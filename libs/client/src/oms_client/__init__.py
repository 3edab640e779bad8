"""The Python client for Orderstream: publish orders and commands, query, follow events."""
