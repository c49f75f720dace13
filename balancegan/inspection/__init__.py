"""What a data set is like, and what to do about it."""
