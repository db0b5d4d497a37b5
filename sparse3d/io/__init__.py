"""File formats: the only place where other conventions are converted, and where files are read and written."""
