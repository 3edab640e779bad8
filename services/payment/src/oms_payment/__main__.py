"""`python -m oms_payment` runs the service."""

from oms_payment.app import main

if __name__ == "__main__":
    main()
