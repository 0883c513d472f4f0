"""Write the files of a finished run."""
