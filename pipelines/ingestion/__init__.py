"""From exported files to cells: what paths say, archives, decoding, duplicates, and where the data come from."""
