"""Tracking: follows packages to their doors, and publishes what every order's status is."""
