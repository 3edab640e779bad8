"""`python -m oms_tracking` runs the service."""

from oms_tracking.app import main

if __name__ == "__main__":
    main()
