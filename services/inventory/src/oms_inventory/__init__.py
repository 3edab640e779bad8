"""Inventory: keeps the stock ledger, and holds stock for orders without ever promising a unit twice."""
