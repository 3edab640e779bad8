"""`python -m oms_cli`: the same as `oms`."""

from oms_cli.app import main

if __name__ == "__main__":
    main()
