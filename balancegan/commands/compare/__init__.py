"""`compare`: several methods on the same images, with the same budget and the same measures, in one table."""
