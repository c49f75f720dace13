"""From images to the document of a report."""
