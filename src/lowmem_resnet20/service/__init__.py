"""A service that evaluates for clients elsewhere: uploaded keys, a queue on disk, one worker process at a time."""
