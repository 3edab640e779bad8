"""Fulfillment: asks warehouses to ship released orders, and keeps count of what they picked, packed and shipped."""
