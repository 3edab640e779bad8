"""`python -m oms_capture` runs the service."""

from oms_capture.app import main

main()
