"""`python -m oms_cli`: the same as `oms`."""

from oms_cli.app import main

main()
