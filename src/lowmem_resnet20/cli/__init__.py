"""The command line: words to a request, and a command for each."""
