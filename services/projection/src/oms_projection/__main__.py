"""`python -m oms_projection` runs the service."""

from oms_projection.app import main

if __name__ == "__main__":
    main()
