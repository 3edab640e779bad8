"""What servers must hold before services start: topics, broker users and their rights, databases and roles, and the secrets of containers.

`python -m oms_provision` is the command. `broker` and `databases` set up one server each, `passwords` makes and keeps the passwords,
`containers` writes the variables of each container.
"""
