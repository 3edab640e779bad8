"""The whole system in memory, under every interleaving."""
