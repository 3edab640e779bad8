"""`python -m oms_gateway` runs the gateway; `python -m oms_gateway user create` makes a user."""

from oms_gateway.app import main

if __name__ == "__main__":
    main()
