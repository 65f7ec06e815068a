"""What the user wants: the builder, its steps as values, and how their strings are read."""
