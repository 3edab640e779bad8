"""Projection: read models of all that the services publish, and the query API over them."""
