"""`python -m oms_capture` runs the service."""

from oms_capture.app import main

if __name__ == "__main__":
    main()
