"""Inventory: keeps the stock ledger and reserves stock for orders."""
