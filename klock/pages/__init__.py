"""What exports are written on: a Dockerfile's lines, and the files of its build context."""
