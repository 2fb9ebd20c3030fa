"""Evaluation on the machines of a Ray cluster: each picture, or group, goes to a worker wherever there is room.

    evaluation    a whole run, in the server's process
    joining       becoming one of the cluster's programs
    nodes         the machines that will do, and how many workers each has room for
    program       that they have the same program
    keys          that they have the keys; sent where they have not
    pictures      the files of the machine that the run was started on
    crew          the workers: started, given pictures, replaced when they are lost
    keeper        on each machine: its keys
    worker        on each machine: a process that evaluates
    keycache      on each machine: key folders that were sent to it

The cluster is the server: it has keys/expN/server, weights and ciphertexts, and nothing else of keys/expN.
"""
