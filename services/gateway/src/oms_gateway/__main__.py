"""`python -m oms_gateway` runs the gateway."""

from oms_gateway.app import main

if __name__ == "__main__":
    main()
