"""`python -m oms_tracking` runs the service."""

from oms_tracking.app import main

main()
