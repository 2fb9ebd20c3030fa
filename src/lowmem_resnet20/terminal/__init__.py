"""What the user writes and reads: the language of words, results, errors and progress."""
