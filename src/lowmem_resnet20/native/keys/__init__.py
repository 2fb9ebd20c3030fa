"""Keys and OpenFHE's files: read within bounds, checked, and kept in a form of their own.

From the bottom up:

    archive, openfhe_objects, openfhe_files
                      OpenFHE's files, read and written: syntax, parts, wholes
    keys              keys in their own form
    refreshkeys       the keys that a refresh uses
    keyplan           which keys a set needs, and at how many towers
"""
