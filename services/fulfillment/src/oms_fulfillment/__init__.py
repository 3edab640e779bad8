"""Fulfillment: requests shipments of released orders from warehouses, and records what they pick, pack and ship."""
