"""The whole system in memory, under any interleaving."""
