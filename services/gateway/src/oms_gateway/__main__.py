"""`python -m oms_gateway user create` makes a user."""

from oms_gateway.operate import main

if __name__ == "__main__":
    main()
